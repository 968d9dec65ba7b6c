import errno
import json
import os
import subprocess
import sys

import pytest

import lightning_zoo

PROBE = """
import json, resource, sys
from lightning_zoo.cli.main import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}), file=sys.stderr)
"""

HEAVY = {"torch", "lightning", "mlflow", "matplotlib", "gymnasium", "pandas", "scipy", "sklearn", "torchvision"}


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "--format", "json"], ["--version"]])
def test_answers_in_half_a_second_without_torch(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    used = json.loads(done.stderr.splitlines()[-1])
    assert used["seconds"] < 0.5
    assert not HEAVY & set(used["modules"])
    assert done.stdout.strip()


def test_help_names_every_command(zoo, capsys):
    from lightning_zoo.cli.main import COMMANDS, TRAINER_COMMANDS

    for words in ([], ["--help"], ["-h"]):
        assert zoo(*words) == 0
        text = capsys.readouterr().out
        assert all(f"\n  {name} " in text for name in (*TRAINER_COMMANDS, *COMMANDS))


def test_version(zoo, capsys):
    assert zoo("--version") == 0
    assert capsys.readouterr().out == f"lightning_zoo {lightning_zoo.__version__}\n"


@pytest.mark.parametrize(
    ("word", "right"), [("fitt", "fit"), ("lst", "list"), ("Collect", "collect"), ("prob", "probe")]
)
def test_an_unknown_command_is_one_line_with_the_nearest(zoo, capsys, word, right):
    assert zoo(word) == 2
    error = capsys.readouterr().err
    assert error == f"error: No command {word!r}. Did you mean {right!r}?\n"


def test_an_unheard_of_command_lists_them_all(zoo, capsys):
    assert zoo("xyzzy") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "fit" in error
    assert "probe" in error


def test_ctrl_c_and_missing_packages(monkeypatch, capsys):
    from lightning_zoo import extras
    from lightning_zoo.cli.errors import guarded

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        guarded(interrupted)
    assert end.value.code == 130

    monkeypatch.setattr(extras, "requires", lambda name: ['av>=12; extra == "video"'])
    monkeypatch.setitem(sys.modules, "av", None)

    def import_av():
        import av  # noqa: F401

    with pytest.raises(SystemExit) as end:
        guarded(import_av)
    assert end.value.code == 2
    assert "pip install 'lightning_zoo[video]'" in capsys.readouterr().err

    def import_foreign():
        import no_such_package_of_anybody  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        guarded(import_foreign)


def test_a_full_disk_is_one_line_and_other_system_errors_are_not_hidden(capsys):
    from lightning_zoo.cli.errors import guarded

    def fail(number):
        raise OSError(number, os.strerror(number), "runs/a/last.ckpt")

    with pytest.raises(SystemExit) as end:
        guarded(lambda: fail(errno.ENOSPC))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: No space left on device: runs/a/last.ckpt.")
    with pytest.raises(OSError, match="Input/output"):
        guarded(lambda: fail(errno.EIO))


def test_the_traceback_can_be_asked_for(monkeypatch):
    from lightning_zoo.cli.errors import UsageError, guarded

    def mistaken():
        raise UsageError("wrong")

    monkeypatch.setenv("LIGHTNING_ZOO_TRACEBACK", "1")
    with pytest.raises(UsageError, match="wrong"):
        guarded(mistaken)
    monkeypatch.setenv("LIGHTNING_ZOO_TRACEBACK", "0")
    with pytest.raises(SystemExit):
        guarded(mistaken)
