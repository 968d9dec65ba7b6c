import json

import pytest

import datamodules
import lightning_zoo
from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.list import (
    README_END,
    README_START,
    datasets,
    markdown,
    methods,
    read_configs,
    readme_with,
    summary_of,
)


@pytest.fixture
def configs(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, head in {
        "stdim_pong": "# ST-DIM on Pong.\n# Status: full-run; F1 0.8 | one seed\nmodel: {class_path: STDIM}\n",
        "cpc_pong": "# CPC on Pong.\n# Status: runs\nmodel: {class_path: lightning_zoo.CPC}\n",
        "stdim_a": "# Small.\n# Status: quick-run\nmodel: {class_path: STDIM}\ndata: {class_path: AtariFrames}\n",
        "overlay": "# For any.\n# Status: runs\ntrainer: {max_epochs: 1}\n",
        "defaults": "# Not listed.\n# Status: runs\n",
    }.items():
        (folder / f"{name}.yaml").write_text(head)
    return folder


def test_the_lists_follow_the_tables():
    assert [entry.name for entry in methods()] == list(lightning_zoo.METHODS)
    assert [entry.name for entry in datasets()] == list(datamodules.DATASETS)
    assert {entry.family for entry in methods()} == {"representation", "generative", "video"}


def test_summaries_are_read_without_importing(tmp_path):
    file = tmp_path / "method.py"
    file.write_text(
        'import no_such_package\n\nclass A:\n    """Other."""\n\nclass B:\n    """First line.\n\n    More.\n    """\n'
    )
    assert summary_of(file, "B") == "First line."
    assert summary_of(file, "C") == ""
    assert (
        next(entry.summary for entry in methods() if entry.name == "STDIM")
        == lightning_zoo.STDIM.__doc__.split("\n")[0]
    )


def test_configs_come_in_the_order_of_the_methods(configs):
    found = read_configs(configs)
    assert [config.name for config in found] == ["stdim_a", "stdim_pong", "cpc_pong", "overlay"]
    assert (found[1].title, found[1].status, found[1].note) == ("ST-DIM on Pong.", "full-run", "F1 0.8 | one seed")
    assert (found[0].method, found[0].dataset) == ("STDIM", "AtariFrames")


@pytest.mark.parametrize("head", ["", "# Title\n", "# Title\n# Status: perfect\n", "# Status: runs\n# Title\n"])
def test_a_config_without_its_head_is_refused(tmp_path, head):
    (tmp_path / "bad.yaml").write_text(head + "model: {}\n")
    with pytest.raises(UsageError, match=r"bad\.yaml has to begin"):
        read_configs(tmp_path)


def test_the_packaged_configs_have_their_head():
    assert "quick" in {config.name for config in read_configs()}


def test_the_readme_table_is_rewritten_in_place(zoo, configs, project, capsys):
    readme = project / "README.md"
    readme.write_text(f"Before\n{README_START}\nold\n{README_END}\nAfter\n")
    assert zoo("list", "--readme", "README.md", "--configs", str(configs)) == 0
    text = readme.read_text()
    assert text.startswith(f"Before\n{README_START}\n| method |")
    assert text.endswith(f"\n{README_END}\nAfter\n")
    assert "old" not in text
    for name in lightning_zoo.METHODS:
        assert text.count(f"**{name}**") == 1
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} <= {5, 6}
    assert readme_with(text, read_configs(configs)) == text
    capsys.readouterr()
    assert zoo("list", "--readme", "README.md", "--configs", str(configs)) == 0
    assert capsys.readouterr().out == "README.md: up to date\n"


def test_a_readme_without_a_place_is_refused(zoo, project, capsys):
    (project / "README.md").write_text("nothing")
    assert zoo("list", "--readme", "README.md") == 2
    assert README_START in capsys.readouterr().err
    assert zoo("list", "--readme", "none.md") == 2


def test_formats(zoo, configs, capsys):
    assert zoo("list", "--format", "json", "--configs", str(configs)) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in tables["methods"]] == list(lightning_zoo.METHODS)
    assert tables["configs"][2]["method"] == "CPC"
    assert zoo("list", "--format", "markdown", "--configs", str(configs)) == 0
    assert capsys.readouterr().out == markdown(read_configs(configs)) + "\n"
    assert zoo("list", "--configs", str(configs)) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*lightning_zoo.METHODS, *datamodules.DATASETS, "stdim_pong", "overlay"))
