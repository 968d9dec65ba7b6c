"""Episodes of a recording, their splits, and the labels of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.atari_games import StateVariable, state_variables
from datamodules.atari_protocol import Protocol
from datamodules.atari_store import Recording
from datamodules.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Episodes:
    """Runs of consecutive rows.

    Attributes:
        starts: (E,) first row of each episode.
        lengths: (E,) number of rows.
    """

    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, index: np.ndarray | slice) -> "Episodes":
        """A subset, by index or mask."""
        return Episodes(self.starts[index], self.lengths[index])

    def rows(self) -> np.ndarray:
        """All rows of all episodes."""
        parts = [np.arange(start, start + length) for start, length in zip(self.starts, self.lengths, strict=True)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def index_of_rows(self) -> np.ndarray:
        """Which episode each of `rows` belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)


@dataclass(frozen=True)
class LabelledSplit:
    """Labelled frames of one split.

    Attributes:
        rows: (n,) rows of the recording.
        labels: (n, K) values 0..255 of the variables.
        episodes: (n,) index of each row's episode.
    """

    rows: np.ndarray
    labels: np.ndarray
    episodes: np.ndarray


def find_episodes(recording: Recording, protocol: Protocol, min_frames: int = 1) -> Episodes:
    """The episodes that a protocol keeps, in the order of the recording.

    Args:
        recording: the frames and what was recorded with them.
        protocol: which frames and episodes are left out.
        min_frames: leave out episodes shorter than this as well, such as those that hold no whole clip.

    Raises:
        DataError: if no episode is left.
    """
    columns = recording.columns
    new_stream = np.flatnonzero(np.diff(columns["stream"], prepend=-1))
    starts = np.union1d(np.flatnonzero(columns["episode_start"]), new_stream)
    ends = np.append(starts[1:], len(recording))
    if not protocol.terminal_frames:
        ends = ends - (columns["terminated"] | columns["truncated"])[ends - 1]
    if protocol.first_frames == "dropped":
        starts = starts + 1
    elif protocol.first_frames == "mislabelled":
        # The original stored no frame before its first step, so a stream's very first reset is unknown to it.
        starts = starts + np.isin(starts, new_stream)
    episodes = Episodes(starts, ends - starts)
    shortest = max(protocol.min_episode_frames, min_frames)
    kept = episodes.select(episodes.lengths >= shortest)
    if len(kept) == 0:
        raise DataError(
            f"{recording.path.name} has no episode of {shortest} frames (the longest has {episodes.lengths.max()}): "
            "collect more with --data.num_frames and --data.num_probe_frames, or lower --data.min_episode_frames"
        )
    return kept


def split_episodes(episodes: Episodes, shares: Sequence[float], protocol: Protocol, seed: int) -> list[Episodes]:
    """Cut episodes into consecutive groups, at least one episode each.

    Args:
        episodes: in the order of the recording.
        shares: of the episodes in each group, adding up to 1.
        protocol: whether the order is shuffled first.
        seed: of the shuffle.

    Raises:
        DataError: if there are fewer episodes than groups.
    """
    number = len(episodes)
    if number < len(shares):
        raise DataError(
            f"{number} episodes cannot be split into {len(shares)} parts: collect more frames with --data.num_frames "
            "and --data.num_probe_frames"
        )
    order = np.arange(number)
    if protocol.split_order == "shuffled":
        order = np.random.default_rng(seed).permutation(number)
    cuts: list[int] = []
    for index, share in enumerate(np.cumsum(shares)[:-1]):
        # Rounded down as in the original, but no group is left empty.
        lowest, highest = (cuts[-1] if cuts else 0) + 1, number - len(shares) + index + 1
        cuts.append(min(max(int(share * number + 1e-9), lowest), highest))
    return [episodes.select(part) for part in np.split(order, cuts)]


def label_entropies(labels: np.ndarray) -> np.ndarray:
    """Entropy in nats of each column of labels (n, K) in 0..255."""
    entropies = np.empty(labels.shape[1])
    for index, column in enumerate(labels.T):
        shares = np.bincount(column, minlength=256) / len(column)
        shares = shares[shares > 0]
        entropies[index] = -(shares * np.log(shares)).sum()
    return entropies


def label_frames(
    recording: Recording, protocol: Protocol, seed: int
) -> tuple[list[StateVariable], dict[str, LabelledSplit]]:
    """The variables that pass the entropy filter, and the labelled frames of train, val and test (70, 10, 20 %).

    Args:
        recording: frames collected for the probes.
        protocol: labels, splits, filters.
        seed: of the split.

    Raises:
        DataError: if the game has no labels, no variable passes, or a split is left without frames.
    """
    episodes = find_episodes(recording, protocol)
    variables = state_variables(recording.settings.game, protocol.label_map)
    ram_rows = _ram_rows(recording, protocol)
    ram = recording.columns["ram"]
    labels = ram[:, [variable.address for variable in variables]][ram_rows]
    kept = label_entropies(labels[episodes.rows()]) >= protocol.entropy_threshold
    if not kept.any():
        raise DataError(
            f"no variable of {recording.settings.game} has an entropy of {protocol.entropy_threshold} nats on "
            f"{recording.path.name}: collect more frames with --data.num_probe_frames or lower --data.entropy_threshold"
        )
    labels = labels[:, kept]
    parts = split_episodes(episodes, (0.7, 0.1, 0.2), protocol, seed)
    splits = _without_duplicates(recording, dict(zip(SPLITS, parts, strict=True)), protocol)
    labelled = {
        name: LabelledSplit(rows, labels[rows].astype(np.int64), index) for name, (rows, index) in splits.items()
    }
    return [variable for variable, keep in zip(variables, kept, strict=True) if keep], labelled


def _ram_rows(recording: Recording, protocol: Protocol) -> np.ndarray:
    """The row whose RAM labels each row: its own, or for a first frame of an episode the row before the reset."""
    rows = np.arange(len(recording))
    if protocol.first_frames == "mislabelled":
        first = np.flatnonzero(recording.columns["episode_start"])
        rows[first] = np.maximum(first - 1, 0)
    return rows


def _without_duplicates(
    recording: Recording, parts: dict[str, Episodes], protocol: Protocol
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    seen: set[bytes] = set()
    splits = {}
    for name, episodes in parts.items():
        rows, index = episodes.rows(), episodes.index_of_rows()
        filtered = protocol.duplicates == "all" or (protocol.duplicates == "test" and name == "test")
        if filtered:
            # Equal frames have equal streams: one library compressed all of them, one by one.
            fresh = np.array([recording.frames[row] not in seen for row in rows], bool)
            rows, index = rows[fresh], index[fresh]
        if protocol.duplicates == "test" and name == "test":
            alone = np.bincount(index, minlength=1)[index] <= 1 if len(index) else np.zeros(0, bool)
            rows, index = rows[~alone], index[~alone]
        if len(rows) == 0:
            raise DataError(
                f"every frame of the {name} split of {recording.path.name} is in an earlier split: collect more with "
                "--data.num_probe_frames or set --data.duplicates none"
            )
        seen.update(recording.frames[row] for row in rows)
        splits[name] = (rows, index)
    return splits
