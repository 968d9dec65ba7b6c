import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_is_one_per_family():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["generative", "representation"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def check_generative(printed, pictures):
    found = re.search(r"^crVAE-GAN +reconstruction error +before (\S+) +after (\S+)$", printed, re.MULTILINE)
    assert found, printed
    before, after = map(float, found.groups())
    assert after < before
    assert pictures == 6


def check_representation(printed, pictures):
    assert "ST-DIM     mean F1" in printed
    assert pictures == 2


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    {"generative": check_generative, "representation": check_representation}[path.stem](printed, pictures)
