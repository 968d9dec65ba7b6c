"""Agent steps of one Atari emulator, with the wrappers of the benchmark folded into one loop."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules.atari_palette import is_ntsc, ntsc_palette

RAM_BYTES = 128
FRAME_SIZE = (210, 160)
FRAME_SKIP = 4
MAX_NOOPS = 30
MAX_EMULATOR_FRAMES_PER_EPISODE = 108_000

LUMA_WEIGHTS = np.array([4899, 9617, 1868], np.float32)
ROUNDING = np.float32(2**13)

Policy = Callable[[np.ndarray, np.random.Generator, bool], int]
"""From a frame (210, 160) or (210, 160, 3), a source of randomness and whether an episode starts with this frame to an
index into the minimal action set."""


@dataclass(frozen=True, kw_only=True)
class CollectionSettings:
    """All that decides which frames are collected; equal settings give equal frames on any number of workers.

    Attributes:
        game: the ROM's name.
        num_frames: rows of the recording, an equal share for each stream.
        seed: with the index of a stream, of everything that is drawn in it; no two pairs share a draw.
        num_streams: independent emulators, recorded one after the other (the benchmark's 8 processes).
        color: "gray" or "rgb".
        max_pooling: of the last two emulator frames: "rgb" before gray as in the benchmark, or "gray" after.
        exclude_noop: never draw action 0 at random, as the benchmark's random agent.
        episodic_life: a lost life ends an episode; the game goes on.
        policy: "random" or the path of a checkpoint whose module can ``act``.
        epsilon: share of uniform actions mixed into a policy.
    """

    game: str
    num_frames: int
    seed: int
    num_streams: int = 8
    color: Literal["gray", "rgb"] = "gray"
    max_pooling: Literal["rgb", "gray"] = "rgb"
    exclude_noop: bool = False
    episodic_life: bool = True
    policy: str = "random"
    epsilon: float = 0.2

    def __post_init__(self) -> None:
        if self.num_frames < 2 * self.num_streams:
            raise ValueError(f"num_frames must be at least {2 * self.num_streams}, got {self.num_frames}")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie in [0, 1], got {self.epsilon}")
        if self.color == "rgb" and self.max_pooling == "gray":
            raise ValueError("max_pooling='gray' needs color='gray'")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(210, 160) or (210, 160, 3)."""
        return FRAME_SIZE if self.color == "gray" else (*FRAME_SIZE, 3)

    def stream_seed(self, stream: int) -> int:
        """A seed for all that is random in one stream, unrelated to those of other streams and other seeds."""
        return int(np.random.SeedSequence([self.seed, stream]).generate_state(1)[0])

    def stream_frames(self, stream: int) -> int:
        """Rows of one stream; the streams differ by one at the most."""
        share, rest = divmod(self.num_frames, self.num_streams)
        return share + (stream < rest)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are stored in the recording."""
        return asdict(self)


def open_rom(game: str, seed: int = 0) -> Any:
    """A quiet `ALEInterface` with the game loaded and without sticky actions."""
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    path = roms.get_rom_path(game)
    assert path is not None, f"{game} is no resolved name of a game"
    ale = ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("max_num_frames_per_episode", MAX_EMULATOR_FRAMES_PER_EPISODE)
    ale.loadROM(path)
    return ale


def num_actions(game: str) -> int:
    """Size of a game's minimal action set."""
    return len(open_rom(game).getMinimalActionSet())


class Row(NamedTuple):
    """One agent step: the frame that it led to, and what else the emulator said then."""

    frame: np.ndarray
    ram: np.ndarray
    action: int
    reward: float
    terminated: bool
    truncated: bool
    lives: int
    episode_start: bool


class Emulator:
    """One game, stepped through `ALEInterface`: four emulator frames per action, no sticky actions."""

    def __init__(self, settings: CollectionSettings, seed: int) -> None:
        self.settings = settings
        self.ale = open_rom(settings.game, seed % 2**31)  # the emulator takes no larger number
        self.actions = self.ale.getMinimalActionSet()
        self.has_fire = len(self.actions) >= 3 and self.actions[1].name == "FIRE"
        self.random = np.random.default_rng(seed)
        size = tuple(self.ale.getScreenDims())
        self._screens = (np.zeros((*size, 3), np.uint8), np.zeros((*size, 3), np.uint8))
        self._numbers = (np.zeros(size, np.uint8), np.zeros(size, np.uint8))
        self._by_number = False

    def step(self, action: int) -> float:
        """Repeat an action over four emulator frames and keep the last two screens; the unclipped reward."""
        reward = 0.0
        for skipped in range(FRAME_SKIP):
            reward += self.ale.act(self.actions[action])
            if skipped >= FRAME_SKIP - 2:
                self._keep_screen(skipped - FRAME_SKIP + 2)
            if self.ale.game_over():
                # The game may end inside the four frames: what is shown is its last screen.
                self._keep_screen(0)
                self._keep_screen(1)
                break
        return reward

    def _keep_screen(self, index: int) -> None:
        if self._by_number:
            self.ale.getScreen(self._numbers[index])
        else:
            self.ale.getScreenRGB(self._screens[index])

    def start(self) -> None:
        """Start a new game after 1 to 30 random no-ops."""
        self.ale.reset_game()
        for _ in range(self.random.integers(1, MAX_NOOPS + 1)):
            self.ale.act(self.actions[0])
            if self.ale.game_over():
                self.ale.reset_game()
        self._choose_way()
        self._keep_screen(0)
        self._keep_screen(1)
        self._press_fire()

    def _choose_way(self) -> None:
        """Pool colour numbers, six times faster than RGB, where a table of pairs is exact: in gray, on NTSC colours."""
        wanted = self.settings.color == "gray" and self.settings.max_pooling == "rgb"
        self._by_number = wanted and is_ntsc(self.ale.getScreen(), self.ale.getScreenRGB())

    def reset(self) -> None:
        """Start the next episode: a new game if this one is over, else the next life."""
        if self.ale.game_over():
            self.start()
        else:
            self.step(0)
            self._press_fire()

    def _press_fire(self) -> None:
        if self.has_fire:
            for action in (1, 2):
                self.step(action)
                if self.ale.game_over():
                    self.ale.reset_game()

    def frame(self) -> np.ndarray:
        """The last two screens, pooled, in the settings' colour and 210x160 pixels: a new array."""
        pooled = self._pooled()
        return pooled if pooled.shape[:2] == FRAME_SIZE else resize(pooled, *FRAME_SIZE)

    def _pooled(self) -> np.ndarray:
        if self._by_number:
            return self._pooled_numbers()
        first, second = self._screens
        if self.settings.color == "rgb":
            return np.maximum(first, second)
        if self.settings.max_pooling == "gray":
            return np.maximum(to_gray(first), to_gray(second))
        return to_gray(np.maximum(first, second))

    def _pooled_numbers(self) -> np.ndarray:
        first, second = (numbers.ravel() for numbers in self._numbers)
        gray = np.empty(self._numbers[0].shape, np.uint8)
        self.ale.getScreenGrayscale(gray)  # of the second screen, which is still shown
        different = np.flatnonzero(first != second)
        gray.ravel()[different] = pooled_grays()[first[different], second[different]]
        return gray


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (H, W) or (H, W, 3) by area: each pixel is the mean of what it covers, also of parts of pixels."""
    rows, columns = _area_weights(image.shape[0], height), _area_weights(image.shape[1], width)
    resized = np.einsum("hr,rc...,wc->hw...", rows, image.astype(np.float32), columns, optimize=True)
    return np.rint(resized).astype(np.uint8)


@cache
def _area_weights(source: int, target: int) -> np.ndarray:
    """(target, source): the share of each source pixel in each target pixel."""
    edges = np.linspace(0, source, target + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(source)
    covered = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    return (covered.clip(0) * target / source).astype(np.float32)


@cache
def pooled_grays() -> np.ndarray:
    """Gray (256, 256) of the brighter of two NTSC colours, channel by channel."""
    palette = ntsc_palette()
    return to_gray(np.maximum(palette[:, None], palette))


def to_gray(rgb: np.ndarray) -> np.ndarray:
    """Luma of (..., 3) uint8 by the fixed-point rule that the emulator's own gray screen and OpenCV follow."""
    # In float32, where the product is fast and, all sums being integers below 2^24, exact.
    luma = rgb.reshape(-1, 3).astype(np.float32) @ LUMA_WEIGHTS
    luma += ROUNDING
    luma *= np.float32(2**-14)
    return luma.astype(np.uint8).reshape(rgb.shape[:-1])


def collect_stream(settings: CollectionSettings, stream: int, policy: Policy | None = None) -> Iterator[Row]:
    """The rows of one stream.

    Every episode's last frame is a row of its own, as is the frame that the reset led to: nothing is relabelled here.

    Args:
        settings: what to collect.
        stream: index below ``settings.num_streams``.
        policy: chooses actions; None for the random agent.
    """
    emulator = Emulator(settings, settings.stream_seed(stream))
    choose = _random_policy(emulator, settings.exclude_noop) if policy is None else policy
    ale = emulator.ale
    emulator.start()
    frame = emulator.frame()
    previous_lives = ale.lives()
    ended, just_started = True, True
    for index in range(settings.stream_frames(stream)):
        starts, action, reward = ended, -1, 0.0
        if not starts:
            action = int(choose(frame, emulator.random, just_started))
            reward = emulator.step(action)
        elif index > 0:
            emulator.reset()
        frame, lives = emulator.frame(), ale.lives()
        truncated = not starts and bool(ale.game_truncated())
        life_lost = settings.episodic_life and 0 < lives < previous_lives
        terminated = not starts and not truncated and bool(ale.game_over() or life_lost)
        ended, previous_lives, just_started = terminated or truncated, lives, starts
        yield Row(frame, ale.getRAM(), action, reward, terminated, truncated, lives, starts)


def _random_policy(emulator: Emulator, exclude_noop: bool) -> Policy:
    lowest = 1 if exclude_noop and len(emulator.actions) > 1 else 0

    def choose(frame: np.ndarray, random: np.random.Generator, episode_start: bool) -> int:
        return int(random.integers(lowest, len(emulator.actions)))

    return choose
