"""What the README shows is what happens: its table is current, its commands run."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest

from lightning_zoo.cli.list import read_configs, readme_with
from lightning_zoo.cli.main import main

README = Path(__file__).parents[1] / "README.md"
SMALL = [
    "--data.num_frames=200",
    "--data.num_probe_frames=400",
    "--data.num_streams=4",
    "--data.batch_size=4",
    "--data.min_episode_frames=2",
    "--data.entropy_threshold=0.3",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
]


def commands():
    """Every command line of the code blocks, without its comment."""
    blocks = re.findall(r"```\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("lightning_zoo ")]


def test_the_table_is_current():
    text = README.read_text()
    assert readme_with(text, read_configs()) == text, "run `make readme`"


def test_there_are_commands_to_run():
    assert len(commands()) >= 7


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """One folder for all commands in their order: later ones build on what earlier ones trained."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", commands())
def test_command(command, workplace, recordings, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    words = shlex.split(command.partition(">")[0])[1:]
    if words[0] == "fit":
        words += [*SMALL, f"--data.root={recordings}"]
    if words[0] == "probe":
        words += ["--max_epochs=2", "--device=cpu"]
    with suppress(SystemExit):  # --print_config exits; an error prints nothing of what is expected
        main(words)
    output = capsys.readouterr().out
    expected = {"fit": "class_path" if "--print_config" in words else "Next:", "probe": "mean F1", "list": "STDIM"}
    assert expected[words[0]] in output


def test_the_first_two_commands_are_targets():
    makefile = (README.parent / "Makefile").read_text()
    first = re.findall(r"^    make (\w+)", README.read_text(), re.MULTILINE)[:2]
    assert first == ["demo", "test"]
    assert all(f"\n{target}: " in makefile for target in first)
