import sys

import pytest

from lightning_zoo import extras
from lightning_zoo.extras import MissingExtraError, how_to_install, is_ours, require

METADATA = ["torch>=2", 'av>=12; extra == "video"', 'scikit_learn; python_version > "3" and extra == "test"']


@pytest.fixture(autouse=True)
def metadata(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda name: METADATA)


def test_require_imports():
    assert require("json.decoder") is sys.modules["json.decoder"]


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("av", "pip install 'lightning_zoo[video]'"),
        ("sklearn", "pip install 'lightning_zoo[test]'"),
        ("torch", "pip install lightning_zoo"),
        ("unheard_of", "pip install unheard_of"),
    ],
)
def test_the_command_names_the_extra(package, command):
    assert how_to_install(package) == f"This needs {package!r}, which is not installed: {command}"


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"'av'.*lightning_zoo\[video\]"):
        require("av")


def test_a_fault_inside_an_installed_package_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        require("broken_package")
    assert not isinstance(caught.value, MissingExtraError)


def test_is_ours():
    assert is_ours("sklearn")
    assert not is_ours("pandas")


def test_the_real_metadata_is_read(monkeypatch):
    monkeypatch.undo()
    assert is_ours("torch")
    assert how_to_install("sklearn").endswith("pip install 'lightning_zoo[video]'")
