"""`lightning_zoo retrieve`, `swap` and `statics` on moving digits, with methods that nobody trained."""

import pytest
import torch
from video_checkpoints import DIGITS, TINY, checkpoint
from video_toy import shaken

from datamodules import MovingMNIST
from lightning_zoo import StaticsDynamics, VideoAutoencoder
from lightning_zoo.cli.main import main
from lightning_zoo.cli.statics import statics
from lightning_zoo.cli.video_data import clips_at, clips_of, facts_of
from lightning_zoo.cli.video_files import side_by_side, strips, write_mp4


@pytest.fixture(scope="module")
def decomposition(tmp_path_factory):
    torch.manual_seed(0)
    return checkpoint(tmp_path_factory.mktemp("own") / "last.ckpt", StaticsDynamics(**TINY))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    torch.manual_seed(1)
    return checkpoint(
        tmp_path_factory.mktemp("baseline") / "last.ckpt", VideoAutoencoder(base_channels=2, feature_size=6)
    )


def test_clips_are_found_again_by_their_rows():
    data = MovingMNIST(**DIGITS)
    whole = clips_of(data, "test")
    assert len(whole) == 16
    assert torch.equal(clips_at(data, "test", [13, 2, 13]), whole[[13, 2, 13]])


def test_features_stand_beside_the_clips_that_they_are_of(autoencoder):
    from lightning_zoo.checkpoints import load

    model, data = load(autoencoder), MovingMNIST(**DIGITS)
    facts = facts_of([model], ["features"], data, "test", 11)
    with torch.no_grad():
        expected = model.encode(clips_of(data, "test", 11))
    torch.testing.assert_close(facts.features[0], expected)
    assert facts.keypoints.shape == (11, 8, 2, 2)
    assert facts.actors is None


def test_statics_and_their_errors(tmp_path, capsys):
    torch.manual_seed(0)
    model = shaken(StaticsDynamics(**TINY)).eval()
    path = checkpoint(tmp_path / "last.ckpt", model)
    statics(str(path), num_clips=2, output=str(tmp_path / "s.png"), device="cpu")
    clips = clips_of(MovingMNIST(**DIGITS), "test", 2)
    with torch.no_grad():
        s = model.statics(clips)
        shown = model.warp(clips), model.decode(model.frame_dynamics(clips, s), s)
    errors = [f"{(frames - clips / 255).square().mean():.4f}" for frames in shown]
    assert errors[0] != errors[1]
    said = capsys.readouterr().out
    assert f"Mean squared error per pixel: warped statics {errors[0]}, drawn frames {errors[1]}" in said
    assert (tmp_path / "s.png").is_file()


@pytest.mark.parametrize("command", ["swap", "statics", "retrieve", "recognize"])
def test_a_run_that_ended_in_its_first_phase_is_told(command, tmp_path, capsys):
    torch.manual_seed(0)
    path = checkpoint(tmp_path / "early.ckpt", StaticsDynamics(**TINY | {"transformer_epochs": 2}))
    with pytest.raises(SystemExit):
        main([command, "--ckpt_path", str(path)])
    said = capsys.readouterr().err.strip()
    assert "early.ckpt was written in the first phase, of 2 epochs, before its video encoder learnt anything" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("command", ["swap", "statics"])
def test_methods_without_statics_are_told(command, autoencoder, capsys):
    with pytest.raises(SystemExit):
        main([command, "--ckpt_path", str(autoencoder)])
    assert "VideoAutoencoder, which cannot" in capsys.readouterr().err


def test_pictures_have_a_row_per_clip_and_mp4_a_frame_per_step(tmp_path):
    av = pytest.importorskip("av", reason="av is not installed: pip install 'lightning_zoo[video]'")
    rows = [torch.zeros(8, 1, 16, 16, dtype=torch.uint8), torch.ones(8, 3, 16, 16)]
    assert strips(rows).shape == (3, 2 * 18 + 2, 8 * 18 + 2)
    clip = side_by_side(rows)
    assert clip.shape == (8, 3, 8 * 38, 8 * 20)
    assert write_mp4(tmp_path / "a" / "clip.mp4", clip)
    with av.open(str(tmp_path / "a" / "clip.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8
    assert abs(int(frames[3][8 * 27, 8 * 10].mean()) - 255) < 12
    assert int(frames[3][8 * 9, 8 * 10].mean()) < 12
