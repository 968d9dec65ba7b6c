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
    for name in set(ours) - {"probe", "num_frames", "preview"}:
        assert ours[name].default == theirs[name].default, name


@pytest.fixture
def recorded(monkeypatch):
    """The settings that would be recorded, without playing."""
    seen = []

    def record(settings, root, **_):
        seen.append(settings)
        path = recording_path(settings, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr("datamodules.atari_collection.collect_frames", record)
    return seen


@pytest.mark.parametrize("count", [(), ("--num_frames", "500")])
@pytest.mark.parametrize(("config", "preset"), [("stdim_pong", "paper"), ("stdim_clean_pong", "clean")])
@pytest.mark.parametrize("kind", ["fit", "probe"])
def test_what_is_collected_is_what_fit_and_probe_read(zoo, recorded, config, preset, kind, count):
    from lightning_zoo.cli.zoo import ZooCLI

    probe = kind == "probe"
    assert zoo("collect", "--preset", preset, *(["--probe"] if probe else []), *count) == 0
    counted = [f"--data.num_{'probe_' * probe}frames", count[1]] if count else []
    fitted = ZooCLI(["--config", config, *counted, "--trainer.logger", "false"], run=False).datamodule
    known = inspect.signature(AtariFrames).parameters
    arguments = {name: value for name, value in fitted.hparams.items() if name in known}
    wanted = AtariFrames(**arguments | {"serve": "labelled"} if probe else arguments)
    assert [recording_path(settings, "data/atari") for settings in recorded] == [wanted.path]
    assert recorded[0].num_frames == (500 if count else 50_000 if probe else 100_000)
