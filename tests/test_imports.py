"""The rules of the house: who imports whom, what importing costs, what setup.cfg lists."""

import ast
import configparser
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import datamodules
import lightning_zoo
import lightning_zoo.cli

ROOT = Path(lightning_zoo.__file__).parents[1]
FOLDERS = {
    "lightning_zoo": ROOT / "lightning_zoo",
    "lightning_zoo.cli": ROOT / "cli",
    "datamodules": ROOT / "datamodules",
}
PURE = ("lightning_zoo.networks", "lightning_zoo.losses", "lightning_zoo.metrics")

MAY_IMPORT = {
    "lightning_zoo.networks": (),
    "lightning_zoo.losses": (),
    "lightning_zoo.metrics": ("lightning_zoo.checkpoints", "lightning_zoo.extras"),
    "lightning_zoo.callbacks": (*PURE, "lightning_zoo.checkpoints"),
    "lightning_zoo.generative": (
        *PURE,
        "lightning_zoo.checkpoints",
        "lightning_zoo.extras",
        "lightning_zoo.gradients",
        "lightning_zoo.step_logging",
    ),
    "lightning_zoo.video": (
        *PURE,
        "lightning_zoo.checkpoints",
        "lightning_zoo.extras",
        "lightning_zoo.gradients",
        "lightning_zoo.step_logging",
    ),
    "lightning_zoo.representation": (
        *PURE,
        "lightning_zoo.checkpoints",
        "lightning_zoo.extras",
        "lightning_zoo.step_logging",
    ),
    "lightning_zoo.augmentations": (),
    "lightning_zoo.checkpoints": (),
    "lightning_zoo.extras": (),
    "lightning_zoo.gradients": (),
    "lightning_zoo.step_logging": (),
    "datamodules": (*PURE, "lightning_zoo.checkpoints", "lightning_zoo.extras"),
}
"""For each part the parts of ours, beside itself and the root package, that it may import; `cli` imports everything."""


def modules():
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), file


def imported(name, file):
    """The full names of all that a module imports, also inside functions, but for type checking."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module
            )
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name, part):
    return name == part or name.startswith(f"{part}.")


def part_of(name):
    return max((part for part in MAY_IMPORT if within(name, part)), key=len, default=None)


@pytest.mark.parametrize(("name", "file"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_who_imports_whom(name, file):
    part = part_of(name)
    if part is None:  # cli, and the root package itself
        assert name == "lightning_zoo" or within(name, "lightning_zoo.cli") or within(name, "lightning_zoo.configs")
        return
    for target in imported(name, file):
        if not (within(target, "lightning_zoo") or within(target, "datamodules")):
            continue
        of_the_root = target.rpartition(".")[0] in ("", "lightning_zoo") and part_of(target) is None
        allowed = (part, *MAY_IMPORT[part])
        assert of_the_root or any(within(target, other) for other in allowed), f"{name} imports {target}"


def test_methods_never_import_each_others_private_parts():
    for name, file in modules():
        if within(name, "lightning_zoo.representation") or within(name, "lightning_zoo.generative"):
            foreign = [
                t for t in imported(name, file) if within(t, "lightning_zoo") and t.rpartition(".")[2].startswith("_")
            ]
            assert foreign in ([], ["lightning_zoo.__version__"]), name


def test_importing_the_packages_imports_no_torch(tmp_path):
    code = (
        "import sys, lightning_zoo, datamodules, lightning_zoo.cli.main;"
        "print([name for name in ('torch', 'lightning', 'numpy', 'mlflow', 'jsonargparse') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_listed_class_is_where_the_table_says():
    for package, table in ((lightning_zoo, lightning_zoo.METHODS), (datamodules, datamodules.DATASETS)):
        for name, module in table.items():
            assert getattr(package, name).__module__ == module
            assert name in dir(package)


def test_setup_lists_every_package():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = set(parser["options"]["packages"].split())
    found = {name for name, file in modules() if file.name == "__init__.py"}
    assert listed == found


def test_the_three_folders_lie_side_by_side():
    parents = {Path(module.__file__).resolve().parents[1] for module in (lightning_zoo, datamodules, lightning_zoo.cli)}
    assert parents == {ROOT.resolve()}


def test_tests_are_no_packages():
    assert not list((ROOT / "tests").rglob("__init__.py"))
