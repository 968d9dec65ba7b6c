"""What a user's mistake looks like: one line on stderr, exit status 2, and the traceback only when it is asked for."""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from datamodules.errors import DataError
from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.extras import MissingExtraError, how_to_install, is_ours

TRACEBACK = "LIGHTNING_ZOO_TRACEBACK"
"""Set this environment variable to 1 to see where an error came from."""


class UsageError(Exception):
    """A mistake in what the user typed or wrote into a config; the message is one line."""


def nearest(word: str, names: Iterable[str]) -> str:
    """The question `Did you mean 'fit'?`, after a space, for the name most like `word`; empty if none is like it."""
    spelt = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), spelt, n=1, cutoff=0.6)
    return f" Did you mean {spelt[near[0]]!r}?" if near else ""


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
        print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
