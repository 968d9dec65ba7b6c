import inspect

import pytest
from matplotlib.image import imread

from datamodules import AtariFrames
from datamodules.atari_collection import recording_path

COLLECT = ("collect", "--game", "breakout", "--num_frames", "200", "--num_streams", "2", "--num_workers", "1")


def test_collect_writes_the_file_that_fit_looks_for(zoo, project, capsys):
    assert zoo(*COLLECT, "--preview", "strip.png") == 0
    output = capsys.readouterr().out
    wanted = AtariFrames(game="breakout", num_frames=200, num_streams=2).settings
    path = recording_path(wanted, "data/atari")
    assert path.is_file()
    assert f"{path}: 200 frames" in output
    assert "frames per second" in output
    strip = imread("strip.png")
    assert strip.shape[:2] == (210, 8 * 164)
    assert len({strip[:, 164 * i : 164 * i + 160].tobytes() for i in range(8)}) > 1
    assert zoo(*COLLECT) == 0
    assert "was there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--game breakot", "'breakot'"),
        ("--num_frames 2", "num_frames must be at least 4, got 2"),
        ("--epsilon 2", "epsilon"),
        ("--color grey", "Did you mean 'gray'?"),
        ("--gmae pong", "Did you mean 'game'?"),
    ],
)
def test_mistakes_are_one_line(zoo, capsys, words, message):
    assert zoo(*COLLECT, *words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_defaults_are_those_of_the_dataset():
    from lightning_zoo.cli.collect import collect

    ours, theirs = inspect.signature(collect).parameters, inspect.signature(AtariFrames).parameters
    for name in ("game", "root", "num_frames", "color", "policy", "epsilon", "seed", "num_streams"):
        assert ours[name].default == theirs[name].default, name
