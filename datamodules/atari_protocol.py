"""How recorded frames become training pairs and labelled frames: the benchmark's protocol, and a clean one."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from datamodules.atari_games import LabelMap


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice between recording and batch.

    Attributes:
        label_map: "paper" for the variables of the published scores, "head" for the benchmark's last version.
        split_order: episodes go to the splits as "collected" or "shuffled" by the seed.
        first_pairs: an episode's first frame is paired with its last one ("wrap") or with none ("skip").
        first_frames: an episode's first frame has the RAM of the frame before the reset ("mislabelled"), its "own", or
            is "dropped".
        terminal_frames: keep the frame on which an episode ended.
        exclude_noop: the random agent never draws action 0.
        sampling: draw an "episode" uniformly and then a frame of it, with replacement, or show each "frame" once an
            epoch.
        test_sampling: of labelled test frames: "with_replacement" or each "once".
        min_episode_frames: shorter episodes are left out.
        duplicates: which labelled frames are dropped for being seen before, pixel by pixel: those of the "test" split
            that are in train or val, "all" that are in an earlier split, or "none".
        entropy_threshold: in nats; a variable whose labels have less over all labelled frames is left out.
        max_pooling: of the last two emulator frames before ("rgb") or after ("gray") conversion to gray.
    """

    label_map: LabelMap = "paper"
    split_order: Literal["collected", "shuffled"] = "shuffled"
    first_pairs: Literal["wrap", "skip"] = "skip"
    first_frames: Literal["mislabelled", "own", "dropped"] = "own"
    terminal_frames: bool = True
    exclude_noop: bool = False
    sampling: Literal["episode", "frame"] = "frame"
    test_sampling: Literal["with_replacement", "once"] = "once"
    min_episode_frames: int = 2
    duplicates: Literal["none", "test", "all"] = "all"
    entropy_threshold: float = 0.6
    max_pooling: Literal["rgb", "gray"] = "rgb"


CLEAN = Protocol()
"""For new work: splits without leaks, every label right, every frame used."""

PAPER = Protocol(
    split_order="collected",
    first_pairs="wrap",
    first_frames="mislabelled",
    terminal_frames=False,
    exclude_noop=True,
    sampling="episode",
    test_sampling="with_replacement",
    # The original dropped episodes that were not longer than its batch of 64.
    min_episode_frames=65,
    duplicates="test",
)
"""What the released code of Anand et al. (2019) does, with its quirks; only its missing seeds are not reproduced."""

PRESETS = {"clean": CLEAN, "paper": PAPER}


def make_protocol(preset: Literal["clean", "paper"], changes: dict[str, Any]) -> Protocol:
    """A preset with changes; a change of None keeps the preset's choice.

    Raises:
        ValueError: for an unknown preset or a number out of range.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be 'clean' or 'paper', got {preset!r}")
    names = {field.name for field in fields(Protocol)}
    assert set(changes) <= names
    protocol = replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})
    if protocol.min_episode_frames < 1:
        raise ValueError(f"min_episode_frames must be at least 1, got {protocol.min_episode_frames}")
    if protocol.entropy_threshold < 0:
        raise ValueError(f"entropy_threshold must not be negative, got {protocol.entropy_threshold}")
    return protocol
