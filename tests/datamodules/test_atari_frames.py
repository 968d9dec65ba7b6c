"""`AtariFrames` on real frames: shapes, labels, determinism, and what goes wrong."""

import numpy as np
import pytest
import torch

from datamodules import AtariFrames, atari_store
from datamodules.atari_policy import load_policy
from datamodules.errors import DataError


def first(loader):
    return next(iter(loader))


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        ({}, {"frames": (8, 2, 1, 210, 160)}),
        ({"clip_length": 3}, {"frames": (8, 3, 1, 210, 160)}),
        ({"clip_length": 20, "batch_size": 4}, {"frames": (4, 20, 1, 210, 160)}),
        ({"same_episode_negatives": True}, {"frames": (8, 2, 1, 210, 160), "negatives": (8, 1, 210, 160)}),
        ({"serve": "images", "color": "rgb"}, {"frames": (8, 3, 210, 160)}),
        ({"serve": "labelled"}, {"frames": (8, 1, 210, 160), "labels": (8, "K")}),
        ({"serve": "labelled", "preset": "paper"}, {"frames": (8, 1, 210, 160), "labels": (8, "K")}),
    ],
)
def test_batches(tiny_atari, arguments, shapes):
    module = tiny_atari(**arguments)
    module.setup()
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        batch = first(loader)
        expected = {
            name: tuple(len(module.variables) if size == "K" else size for size in shape)
            for name, shape in shapes.items()
        }
        assert {name: tuple(values.shape) for name, values in batch.items()} == expected
        assert batch["frames"].dtype == torch.uint8
    assert first(module.predict_dataloader())["frames"].shape[1:] == module.image_shape


def test_pairs_are_consecutive_frames_of_the_recording(tiny_atari):
    module = tiny_atari()
    module.setup()
    frames = module.frames.gather(torch.arange(400))
    batch = first(module.train_dataloader())["frames"]
    for earlier, later in batch:
        rows = (frames == earlier).flatten(1).all(1).nonzero().flatten()
        assert any((frames[row + 1] == later).all() for row in rows.tolist() if row + 1 < 400)


def test_labels_are_the_ram_of_their_frames(tiny_atari):
    module = tiny_atari(serve="labelled", test_sampling="once")
    module.setup()
    recording = atari_store.read(module.path)
    split = module.labelled["test"]
    batch = first(module.test_dataloader())
    addresses = {"player_y": 51, "enemy_y": 50, "ball_x": 49, "ball_y": 54, "enemy_score": 13, "player_score": 14}
    assert set(module.variables) <= set(addresses)
    for index, row in enumerate(split.rows[:8]):
        torch.testing.assert_close(batch["frames"][index], module.frames.gather(torch.tensor([row]))[0])
        ram = recording.columns["ram"][row, [addresses[name] for name in module.variables]]
        assert batch["labels"][index].tolist() == ram.tolist()


def test_the_ball_is_where_the_ram_says(tiny_atari):
    """Pixels and RAM belong to the same moment: the ball's byte moves with the white blob on Pong's field."""
    module = tiny_atari(serve="labelled", color="rgb")
    module.setup()
    split = module.labelled["train"]
    column = module.variables.index("ball_x")
    frames = module.frames.gather(torch.from_numpy(split.rows))
    white = (frames[:, :, 34:194] > 230).all(1)  # (n, 160, 160): ball and borders of the field alone are white
    blob = white.any(1).float()
    seen = (white.flatten(1).sum(1) > 0) & (white.flatten(1).sum(1) < 40)
    x = (blob * torch.arange(160)).sum(1) / blob.sum(1).clamp(min=1)
    label = torch.from_numpy(split.labels[:, column]).float()
    assert seen.sum() > 50
    assert np.corrcoef(x[seen], label[seen])[0, 1] > 0.98


def test_train_and_val_share_no_episode(tiny_atari):
    module = tiny_atari()
    module.setup()
    rows = [set(module.episodes[name].rows().tolist()) for name in ("train", "val")]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == 400


def test_encoder_and_probe_frames_are_recorded_apart(tiny_atari):
    assert tiny_atari().path != tiny_atari(serve="labelled", num_probe_frames=400).path
    assert tiny_atari().settings.seed != tiny_atari(serve="labelled").settings.seed


def test_everything_is_a_function_of_the_arguments(tiny_atari):
    def hashes(**arguments):
        module = tiny_atari(**arguments)
        module.setup()
        loader = module.train_dataloader()
        loader.sampler.set_epoch(2)
        return [int(batch["frames"].long().sum()) for batch in loader]

    assert hashes() == hashes()
    assert hashes() != hashes(seed=43)
    assert hashes(sampling="episode") != hashes()


def test_validation_is_the_same_in_every_epoch(tiny_atari):
    for arguments in ({}, {"serve": "labelled"}):
        module = tiny_atari(**arguments)
        module.setup()
        loader = module.val_dataloader()
        before = first(loader)["frames"]
        loader.sampler.set_epoch(5)
        torch.testing.assert_close(first(loader)["frames"], before)


def test_the_papers_validation_is_drawn_anew(tiny_atari):
    module = tiny_atari(preset="paper")
    module.setup()
    loader = module.val_dataloader()
    before = first(loader)["frames"]
    loader.sampler.set_epoch(5)
    assert not torch.equal(first(loader)["frames"], before)


def test_test_frames_once_or_with_replacement(tiny_atari):
    once = tiny_atari(serve="labelled")
    once.setup()
    labels = torch.cat([batch["labels"] for batch in once.test_dataloader()])
    assert labels.tolist() == once.labelled["test"].labels.tolist()
    drawn = tiny_atari(serve="labelled", test_sampling="with_replacement")
    drawn.setup()
    assert sum(len(batch["labels"]) for batch in drawn.test_dataloader()) == len(labels) // 8 * 8


def test_facts_for_methods(tiny_atari):
    module = tiny_atari(serve="labelled", color="rgb")
    assert module.image_shape == (3, 210, 160)
    assert module.num_actions == 6
    assert module.fingerprint["settings"]["game"] == "pong"
    module.setup()
    assert set(module.categories) == set(module.variables)
    assert module.categories["ball_x"] == ["small_object_localization"]


def test_frames_before_setup_are_an_error_of_the_programmer(tiny_atari):
    with pytest.raises(RuntimeError, match=r"no frames before setup\(\)"):
        _ = tiny_atari().frames


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"game": "pung"}, DataError, "did you mean"),
        ({"clip_length": 0}, ValueError, "clip_length must be at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"num_frames": 1}, ValueError, "num_frames must be at least"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        AtariFrames(**arguments)


def test_a_game_without_labels_trains_but_cannot_be_probed(tiny_atari):
    tiny_atari(game="alien", num_frames=100).setup()
    with pytest.raises(DataError, match="'alien' has no labelled variables"):
        tiny_atari(game="alien", serve="labelled", num_probe_frames=100).setup()


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist: collect it with lightning_zoo collect"):
        AtariFrames(root=str(tmp_path)).setup()


def test_clips_longer_than_every_episode_are_named(tiny_atari):
    with pytest.raises(DataError, match="has no episode of 300 frames"):
        tiny_atari(clip_length=300).setup()


class Agent(torch.nn.Module):
    """Presses one button; remembers what it was shown."""

    observation_shape = (3, 42, 40)

    def __init__(self, action):
        super().__init__()
        self.action = action
        self.seen = []

    def act(self, observations, explore):
        assert explore
        self.seen.append(observations)
        return torch.full((len(observations),), self.action)


@pytest.fixture
def agent(monkeypatch):
    agent = Agent(action=2)
    monkeypatch.setattr("lightning_zoo.checkpoints.load", lambda path: agent)
    return agent


def test_an_agent_plays_with_its_share_of_random_actions(agent):
    from datamodules.atari_emulator import CollectionSettings, collect_stream

    for epsilon, at_least, at_most in [(0.0, 1.0, 1.0), (0.6, 0.4, 0.6)]:
        settings = CollectionSettings(
            game="pong", num_frames=300, seed=0, num_streams=1, policy="agent.ckpt", epsilon=epsilon
        )
        rows = list(collect_stream(settings, 0, load_policy(settings, 0)))
        actions = [row.action for row in rows if not row.episode_start]
        assert at_least <= np.mean([action == 2 for action in actions]) <= at_most


def test_an_agent_sees_its_stack_oldest_first(agent):
    from datamodules.atari_emulator import CollectionSettings

    policy = load_policy(CollectionSettings(game="pong", num_frames=100, seed=0, policy="agent.ckpt", epsilon=0.0), 0)
    random = np.random.default_rng(0)
    for brightness, start in [(10, True), (20, False), (30, False), (40, True)]:
        policy(np.full((210, 160), brightness, np.uint8), random, start)
    assert [stack[0, :, 0, 0].tolist() for stack in agent.seen] == [
        [10, 10, 10], [10, 10, 20], [10, 20, 30], [40, 40, 40],
    ]  # fmt: skip
    assert agent.seen[0].shape == (1, 3, 42, 40)
    assert agent.seen[0].dtype == torch.uint8


def test_a_module_that_cannot_act_is_named(monkeypatch):
    from datamodules.atari_emulator import CollectionSettings

    monkeypatch.setattr("lightning_zoo.checkpoints.load", lambda path: torch.nn.Linear(1, 1))
    with pytest.raises(DataError, match=r"policy: encoder.ckpt holds a Linear, which cannot act"):
        load_policy(CollectionSettings(game="pong", num_frames=100, seed=0, policy="encoder.ckpt"), 0)
