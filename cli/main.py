"""The command `lightning_zoo`: looks at the first word and imports only what that command needs."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from lightning_zoo import __version__

from .errors import UsageError, guarded, nearest


class Command(NamedTuple):
    """One word of the command line: what it does and which function does it (module in this package, name)."""

    summary: str
    module: str
    function: str


TRAINER_COMMANDS = {
    "fit": "train a method on a dataset",
    "validate": "evaluate a checkpoint on the validation data",
    "test": "evaluate a checkpoint on the test data",
    "predict": "run a checkpoint over the prediction data",
}

COMMANDS = {
    "list": Command("show methods, datasets and packaged configs", "list", "list_zoo"),
    "collect": Command("play a game and write its frames to a file", "collect", "collect"),
    "probe": Command("measure what a checkpoint's features know", "probe", "probe"),
    "sample": Command("draw pictures with a generative method", "sample", "sample"),
    "reconstruct": Command("show images and what a generative method makes of them", "reconstruct", "reconstruct"),
    "complete": Command("fill in what a mask hides of images", "complete", "complete"),
    "traverse": Command("walk through the latent blocks of a generative method", "traverse", "traverse"),
    "attention": Command("show which attribute attends which latent block", "attention", "attention"),
    "score": Command("measure how close samples come to real images", "score", "score"),
    "attributes": Command("measure whether faces show the attributes they were drawn by", "attributes", "attributes"),
    "retrieve": Command("find clips that move or look like given ones", "retrieve", "retrieve"),
    "swap": Command("draw clips from the statics of one and the dynamics of another", "swap", "swap"),
    "statics": Command("show what the frames of a clip have in common", "statics", "statics"),
    "recognize": Command("classify videos by their statics and dynamics", "recognize", "recognize"),
    "faces": Command("open a page that draws faces by attributes and refines them", "faces", "faces"),
    "make_faces": Command("draw synthetic faces in the layout of CelebA", "make_faces", "make_faces"),
}

EXAMPLES = """\
  lightning_zoo fit --config stdim_pong.yaml
  lightning_zoo fit --config stdim_pong --config quick --data.game boxing
  lightning_zoo fit --config stdim_pong --ckpt_path last
  lightning_zoo probe --ckpt_path last
  lightning_zoo sample --ckpt_path last"""


def main(argv: list[str] | None = None) -> None:
    """Run one command.

    Args:
        argv: The words after `lightning_zoo`; None takes those of the process.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    guarded(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
    elif words[0] == "--version":
        print(f"lightning_zoo {__version__}")
    elif words[0] in TRAINER_COMMANDS:
        from .zoo import run

        run(words)
    elif words[0] in COMMANDS:
        _call(words[0], words[1:])
    else:
        names = [*TRAINER_COMMANDS, *COMMANDS]
        raise UsageError(
            f"No command {words[0]!r}.{nearest(words[0], names) or ' There are: ' + ', '.join(names) + '.'}"
        )


def _call(name: str, words: list[str]) -> None:
    command = COMMANDS[name]
    function: Callable[..., None] = getattr(import_module(f"{__package__}.{command.module}"), command.function)

    from jsonargparse import auto_cli

    from .parser import OneLineParser

    words = _spell_out_flags(words, function)
    auto_cli(
        function,
        args=words,
        prog=f"lightning_zoo {name}",
        as_positional=False,
        allow_abbrev=False,
        parser_class=OneLineParser,
    )


def _spell_out_flags(words: list[str], function: Callable[..., None]) -> list[str]:
    """`--baselines` for `--baselines true`, and `--images a b` for a list in JSON, which is all jsonargparse takes."""
    switches = {f"--{name}" for name, value in function.__annotations__.items() if value in (bool, "bool")}
    lists = {f"--{name}" for name, value in function.__annotations__.items() if str(value).startswith("list[")}
    spelled: list[str] = []
    while words:
        word, *words = words
        spelled.append(word)
        if word in switches and (not words or words[0].startswith("--")):
            spelled.append("true")
        elif word in lists and not (words and words[0].startswith("[")):
            count = next((place for place, following in enumerate(words) if following.startswith("--")), len(words))
            spelled.append(json.dumps(words[:count]))
            words = words[count:]
    return spelled


def usage() -> str:
    """The text of `lightning_zoo --help`."""
    summaries = TRAINER_COMMANDS | {name: command.summary for name, command in COMMANDS.items()}
    width = max(map(len, summaries))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "usage: lightning_zoo COMMAND [options]",
            "",
            "Representation learning on PyTorch Lightning, each method beside its paper's numbers.",
            "",
            "commands:",
            *lines,
            "",
            "examples:",
            EXAMPLES,
            "",
            "`lightning_zoo COMMAND --help` shows the options of a command; LIGHTNING_ZOO_TRACEBACK=1 a traceback.",
        ]
    )
