"""What the README shows is what happens: its table is current, its commands run."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from lightning_zoo.cli.list import read_configs, readme_with
from lightning_zoo.cli.main import main

README = Path(__file__).parents[1] / "README.md"
ATARI = [
    "--data.num_frames=200",
    "--data.num_probe_frames=400",
    "--data.num_streams=4",
    "--data.batch_size=4",
    "--data.min_episode_frames=2",
    "--data.entropy_threshold=0.3",
]
SMALL = [
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
]


GAN = ["--model.base_channels=2", "--model.hidden_size=8", "--data.batch_size=4"]
"""What makes a command small, by a word in it; Atari's is the default."""
FIT = {
    "crvae_atari": [*ATARI, *GAN, "--trainer.callbacks=LastCheckpoint"],
    "crvae_celeba": [*GAN, "--trainer.callbacks=LastCheckpoint"],
    "acvae_celeba": [*GAN, "--trainer.max_epochs=2"],
    "attribute_classifier_celeba": ["--model.base_channels=2", "--data.batch_size=4"],
    "statics_dynamics_moving_mnist": [
        *("--model.base_channels=2", "--model.channels=4", "--model.hidden_size=8", "--data.batch_size=4"),
        *("--data.num_train=16", "--data.num_val=8", "--data.num_test=8"),
        *("--model.transformer_epochs=1", "--trainer.max_epochs=2"),
    ],
    "crvae_mnist": ["--model.base_channels=2", "--data.batch_size=4", "--data.num_val=8"],
}
OTHERS = {
    "probe": ["--max_epochs=2", "--device=cpu"],
    "make_faces": ["--num_images=60"],
    "sample": ["--num_images=2", "--device=cpu"],
    "reconstruct": ["--num_images=2", "--device=cpu"],
    "complete": ["--num_images=2", "--steps=2", "--restarts=1", "--device=cpu"],
    "traverse": ["--num_images=2", "--device=cpu"],
    "attention": [],
    "attributes": ["--num_images=4", "--device=cpu"],
    "faces": ["--device=cpu"],
    "statics": ["--num_clips=2", "--device=cpu"],
    "swap": ["--num_clips=2", "--device=cpu"],
    "retrieve": ["--num_shown=1", "--num_queries=8", "--num_database=16", "--device=cpu"],
    "recognize": ["--epochs=2", "--num_clips=16", "--device=cpu"],
    "score": ["--num_images=4", "--device=cpu"],
    "test": ["--model.num_draws=2", "--data.num_val=8", "--data.batch_size=4", "--trainer.limit_test_batches=1"],
}


def commands():
    """Every command line of the code blocks, without its comment."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    whole = [block.replace("\\\n", " ") for kind, block in blocks if not kind]
    lines = [line.partition("#")[0].strip() for block in whole for line in block.splitlines()]
    return [line for line in lines if line.startswith("lightning_zoo ")]


def test_the_table_is_current():
    text = README.read_text()
    assert readme_with(text, read_configs()) == text, "run `make readme`"


def test_there_are_commands_to_run():
    assert len(commands()) >= 19


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """One folder for all commands in their order: later ones build on what earlier ones trained."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", commands())
def test_command(command, workplace, recordings, mnist_files, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("lightning_zoo.cli.faces._serve", lambda model, *rest: print(f"page of {type(model).__name__}"))
    mnist_files(workplace / "data/mnist")
    words = shlex.split(command.partition(">")[0])[1:]
    if words[0] == "fit":
        known = [small for name, small in FIT.items() if name in words]
        words += [*SMALL, *(known[0] if known else ATARI)]
        words += [f"--data.root={recordings}"] if not known or "crvae_atari" in words else []
    else:
        # The last of two is the one that counts.
        words += OTHERS.get(words[0], [])
    with suppress(SystemExit):  # --print_config exits; an error prints nothing of what is expected
        main(words)
    output = capsys.readouterr().out
    expected = {
        "fit": "class_path" if "--print_config" in words else "Run:",
        "probe": "mean F1",
        "list": "STDIM",
        "test": "test/nll",
        "make_faces": "synthetic",
        "score": "frechet",
        "faces": "page of ACVAEGAN",
        "attributes": "attributes.csv",
        "recognize": "frame",
    }
    assert expected.get(words[0], ".png") in output


def test_the_first_two_commands_are_targets():
    makefile = (README.parent / "Makefile").read_text()
    first = re.findall(r"^    make (\w+)", README.read_text(), re.MULTILINE)[:2]
    assert first == ["demo", "test"]
    assert all(f"\n{target}: " in makefile for target in first)
