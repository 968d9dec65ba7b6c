"""The collector's one loop against gymnasium environments with the benchmark's wrappers written out one by one."""

import gymnasium
import numpy as np
import pytest
from ale_py import ALEInterface

from datamodules.atari_emulator import CollectionSettings, Emulator, collect_stream, num_actions, resize, to_gray
from datamodules.atari_palette import is_ntsc


class SlowBenchmark:
    """NoopReset, MaxAndSkip, EpisodicLife and FireReset around ``gymnasium.make``, as their definitions read."""

    def __init__(self, game_id, seed):
        import ale_py

        gymnasium.register_envs(ale_py)
        self.env = gymnasium.make(game_id, frameskip=1, repeat_action_probability=0.0, full_action_space=False)
        self.env.reset(seed=seed % 2**31)
        self.random = np.random.default_rng(seed)
        self.ale = self.env.unwrapped.ale
        self.fire = self.env.unwrapped.get_action_meanings()[1] == "FIRE"
        self.over = True
        self.lives = 0

    def skip(self, action):
        screens, reward = [], 0.0
        for _ in range(4):
            screen, part, terminated, truncated, _ = self.env.step(action)
            screens.append(screen)
            reward += part
            self.over = terminated or truncated
            if self.over:
                return screens[-1], reward
        return np.maximum(screens[-1], screens[-2]), reward

    def reset(self):
        if self.over:
            screen, _ = self.env.reset()
            self.over = False
            for _ in range(self.random.integers(1, 31)):
                screen, *_ = self.env.step(0)
        else:
            screen, _ = self.skip(0)
        if self.fire:
            self.skip(1)
            screen, _ = self.skip(2)
        self.lives = self.ale.lives()
        return screen

    def step(self, action):
        screen, reward = self.skip(action)
        lost = 0 < self.ale.lives() < self.lives
        self.lives = self.ale.lives()
        return screen, reward, self.over or lost


@pytest.mark.parametrize(
    ("game", "game_id"), [("breakout", "ALE/Breakout-v5"), ("pong", "ALE/Pong-v5"), ("freeway", "ALE/Freeway-v5")]
)
def test_rows_equal_the_wrapped_environment(game, game_id):
    settings = CollectionSettings(game=game, num_frames=320, seed=7, num_streams=1, color="rgb", exclude_noop=True)
    slow = SlowBenchmark(game_id, seed=settings.stream_seed(0))
    actions = slow.env.action_space.n
    ended = True
    episodes = 0
    for row in collect_stream(settings, 0):
        assert row.episode_start == ended
        if ended:
            screen, reward, ended = slow.reset(), 0.0, False
            episodes += 1
        else:
            screen, reward, ended = slow.step(int(slow.random.integers(1, actions)))
        np.testing.assert_array_equal(row.frame, screen)
        np.testing.assert_array_equal(row.ram, slow.ale.getRAM())
        assert (row.reward, row.terminated, row.lives) == (reward, ended, slow.ale.lives())
    if game == "breakout":
        assert episodes > 3, "lives were lost: the episodes have to show it"


def test_noop_is_drawn_only_if_it_may_be():
    def actions(exclude):
        settings = CollectionSettings(game="pong", num_frames=200, seed=0, num_streams=1, exclude_noop=exclude)
        return {row.action for row in collect_stream(settings, 0) if not row.episode_start}

    assert actions(True) == {1, 2, 3, 4, 5}
    assert actions(False) == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("game", ["pong", "breakout", "ms_pacman", "seaquest", "video_pinball", "air_raid"])
def test_pooling_colour_numbers_equals_pooling_colours(game, monkeypatch):
    settings = CollectionSettings(game=game, num_frames=150, seed=3, num_streams=1)
    fast = [row.frame for row in collect_stream(settings, 0)]
    monkeypatch.setattr("datamodules.atari_emulator.is_ntsc", lambda numbers, rgb: False)
    slow = [row.frame for row in collect_stream(settings, 0)]
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_higher_screen_is_scaled_by_area(color):
    settings = CollectionSettings(game="air_raid", num_frames=30, seed=3, num_streams=1, color=color)
    emulator = Emulator(settings, seed=0)
    emulator.start()
    whole = np.maximum(*emulator._screens)
    assert whole.shape == (250, 160, 3)
    whole = (to_gray(whole) if color == "gray" else whole).astype(float)
    # Row r of 210 covers rows 250 / 210 r to 250 / 210 (r + 1), in parts.
    weights = np.array(
        [[max(0, min(i + 1, (r + 1) * 25 / 21) - max(i, r * 25 / 21)) for i in range(250)] for r in range(210)]
    )
    expected = np.tensordot(weights / weights.sum(1, keepdims=True), whole, 1)
    assert np.abs(emulator.frame() - expected).max() <= 0.51


def test_an_agents_view_is_scaled_by_area():
    image = np.random.default_rng(0).integers(0, 256, (210, 160), np.uint8)
    # 84 goes into 210 five times in two pixels, so two rows of the view are the mean of five of the image.
    np.testing.assert_allclose(
        resize(image, 84, 160).reshape(42, 2, 160).mean(1), image.reshape(42, 5, 160).mean(1), atol=0.51
    )
    np.testing.assert_array_equal(resize(image, 105, 80), np.rint(image.reshape(105, 2, 80, 2).mean((1, 3))))


def test_a_pal_game_is_recognised():
    ways = {}
    for game in ("pong", "air_raid"):
        emulator = Emulator(CollectionSettings(game=game, num_frames=150, seed=3), seed=0)
        emulator.start()
        ways[game] = is_ntsc(emulator.ale.getScreen(), emulator.ale.getScreenRGB())
    assert ways == {"pong": True, "air_raid": False}


def test_gray_equals_the_emulators_own():
    from ale_py import roms

    ale = ALEInterface()
    ale.loadROM(roms.get_rom_path("ms_pacman"))
    for _ in range(300):
        ale.act(ale.getMinimalActionSet()[1])
    np.testing.assert_array_equal(to_gray(ale.getScreenRGB()), ale.getScreenGrayscale())


def test_gray_follows_the_fixed_point_rule_for_every_colour():
    rng = np.random.default_rng(0)
    colours = np.concatenate([rng.integers(0, 256, (1, 300_000, 3)), [[[0, 0, 0], [255, 255, 255]]]], axis=1)
    expected = (colours @ np.array([4899, 9617, 1868]) + 8192) >> 14
    np.testing.assert_array_equal(to_gray(colours.astype(np.uint8)), expected)


def test_pooling_before_and_after_gray_differ_only_where_two_colours_mix():
    def frames(pooling):
        settings = CollectionSettings(game="breakout", num_frames=150, seed=1, num_streams=1, max_pooling=pooling)
        return np.stack([row.frame for row in collect_stream(settings, 0)]).astype(int)

    before, after = frames("rgb"), frames("gray")
    different = before != after
    assert different.mean() < 0.002
    # The maximum per channel is at least as bright as either colour.
    assert (before >= after).all()


def test_a_game_without_fire_is_not_fired():
    settings = CollectionSettings(game="freeway", num_frames=20, seed=0, num_streams=1)
    assert num_actions("freeway") == 3
    assert next(iter(collect_stream(settings, 0))).action == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 3}, "num_frames must be at least 16, got 3"),
        ({"epsilon": 1.5}, "epsilon must lie in .* got 1.5"),
        ({"color": "rgb", "max_pooling": "gray"}, "max_pooling='gray' needs color='gray'"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        CollectionSettings(**({"game": "pong", "num_frames": 100, "seed": 0} | change))
