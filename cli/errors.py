"""What a user's mistake looks like: one line on stderr, exit status 2, and the traceback only when it is asked for."""

import dis
import errno
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

import datamodules
import lightning_zoo
from datamodules.errors import DataError
from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.extras import MissingExtraError, how_to_install, is_ours

TRACEBACK = "LIGHTNING_ZOO_TRACEBACK"
"""Set this environment variable to 1 to see where an error came from."""

STEPS = ("training_step", "validation_step", "test_step", "predict_step")

BATCH_ENTRIES = {
    "frames": "--data AtariFrames",
    "labels": "--data.serve labelled",
    "negatives": "--data.serve clips and --data.same_episode_negatives true",
    "features": "--data Features",
}
"""What a method may read from a batch, and the options of our datasets that put it there."""


class UsageError(Exception):
    """A mistake in what the user typed or wrote into a config; the message is one line."""


def nearest(word: str, names: Iterable[str]) -> str:
    """The question `Did you mean 'fit'?`, after a space, for the name most like `word`; empty if none is like it."""
    spelt = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), spelt, n=1, cutoff=0.6)
    return f" Did you mean {spelt[near[0]]!r}?" if near else ""


def mistake_in(error: Exception) -> str | None:
    """The line for an error that met a running trainer and is the user's mistake; None for a fault of the code.

    A mistake is a `ValueError` that a `raise` of this package threw, and an entry that a method misses in its batch.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return None
    if isinstance(error, ValueError):
        code = last.tb_frame.f_code
        raised = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
        return str(error) if raised and _is_of_this_package(code.co_filename) else None
    entry = error.args[0] if isinstance(error, KeyError) and error.args else None
    in_step = any(frame.f_code.co_name in STEPS for frame, _ in walk_tb(error.__traceback__))
    if not in_step or entry not in BATCH_ENTRIES:
        return None
    return f"The method reads {entry!r}, which the batches have not: {BATCH_ENTRIES[entry]} gives them."


def _is_of_this_package(file: str) -> bool:
    roots = (Path(package.__file__).parent for package in (lightning_zoo, datamodules) if package.__file__)
    return any(Path(file).is_relative_to(root) for root in roots)


def guarded(run: Callable[[], None]) -> None:
    """Call `run`; a mistake of the user ends the process with one line and status 2, Ctrl-C with 130."""
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except (UsageError, DataError, CheckpointError, MissingExtraError) as error:
        _end(error, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _end(error, f"{error.strerror}: {error.filename or Path.cwd()}. Make room; complete checkpoints are unharmed.")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not is_ours(package):
            raise
        _end(error, how_to_install(package))


def _end(error: Exception, message: str) -> None:
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        raise error
    # Under DDP every process meets the mistake; the first one tells.
    if os.environ.get("LOCAL_RANK", "0") == "0" or isinstance(error, DataError):
        # What a dataset misses is told in four lines: what, from where, into which folder, and the next command.
        lines = message if isinstance(error, DataError) else " ".join(message.split())
        print("error:", lines, file=sys.stderr)
    sys.exit(2)
