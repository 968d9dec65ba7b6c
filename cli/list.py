"""`lightning_zoo list`: methods, datasets and packaged configs, read from the files without importing torch."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import datamodules
import lightning_zoo

from .errors import UsageError
from .find_config import CONFIGS, DEFAULTS, read_yaml

README_START = "<!-- lightning_zoo list: start -->"
README_END = "<!-- lightning_zoo list: end -->"

STATUSES = {
    "full-run": "trained with the published settings",
    "quick-run": "trained with a small budget",
    "runs": "starts and learns in the tests",
}


@dataclass(frozen=True)
class Entry:
    """A method or a dataset: its class, the folder it belongs to and the first line of its docstring."""

    name: str
    family: str
    summary: str


@dataclass(frozen=True)
class Config:
    """A packaged config: its head lines and the classes that it names, empty for an overlay."""

    name: str
    title: str
    status: str
    note: str
    method: str
    dataset: str


def list_zoo(
    format: Literal["text", "markdown", "json"] = "text", readme: str | None = None, configs: str = str(CONFIGS)
) -> None:
    """Show the methods, datasets and packaged configs.

    Args:
        format: How to print them.
        readme: Rewrite the table in this README.md instead of printing; it lies between two HTML comments.
        configs: The folder of the configs.

    Raises:
        UsageError: If the README is missing or has no place for the table.
    """
    found = read_configs(Path(configs))
    if readme is not None:
        write_readme(Path(readme), found)
    elif format == "json":
        tables: dict[str, Sequence[Any]] = {"methods": methods(), "datasets": datasets(), "configs": found}
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in tables.items()}, indent=2))
    elif format == "markdown":
        print(markdown(found))
    else:
        _print_tables(found)


def methods() -> list[Entry]:
    """Every method, in the order of `lightning_zoo.METHODS`."""
    return _entries(lightning_zoo.METHODS, Path(lightning_zoo.__file__).parents[1])


def datasets() -> list[Entry]:
    """Every dataset, in the order of `datamodules.DATASETS`."""
    return _entries(datamodules.DATASETS, Path(datamodules.__file__).parents[1])


def _entries(table: Mapping[str, str], root: Path) -> list[Entry]:
    rows = []
    for name, module in table.items():
        file = root.joinpath(*module.split(".")).with_suffix(".py")
        rows.append(Entry(name, module.split(".")[-2], summary_of(file, name)))
    return rows


def summary_of(file: Path, name: str) -> str:
    """The first line of the docstring of class `name` in a source file, which is parsed and not imported."""
    if not file.is_file():
        return ""
    classes = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
    docstring = next((ast.get_docstring(node) for node in classes if node.name == name), None)
    return (docstring or "").partition("\n")[0]


def read_configs(folder: Path = CONFIGS) -> list[Config]:
    """The configs of a folder, by the order of their methods and then by name; overlays come last.

    Raises:
        UsageError: If a config lacks its two head lines.
    """
    order = {name: place for place, name in enumerate(lightning_zoo.METHODS)}
    found = [_read_config(file) for file in folder.glob("*.yaml") if file.name != DEFAULTS.name]
    return sorted(found, key=lambda config: (order.get(config.method, len(order)), config.name))


def _read_config(file: Path) -> Config:
    text = file.read_text()
    head = re.match(r"# (?P<title>.+)\n# Status: (?P<status>[\w-]+)(?:; *(?P<note>.*))?\n", text)
    if head is None or head["status"] not in STATUSES:
        raise UsageError(f"{file} has to begin with `# <title>` and `# Status: <{'|'.join(STATUSES)}>; <note>`.")
    content = read_yaml(file)
    method, dataset = (_class_name(content.get(key)) for key in ("model", "data"))
    return Config(file.stem, head["title"], head["status"], head["note"] or "", method, dataset)


def _class_name(section: object) -> str:
    path = section.get("class_path", "") if isinstance(section, dict) else section or ""
    return str(path).rpartition(".")[2]


def markdown(configs: Sequence[Config]) -> str:
    """The README's table: method x dataset x config x status."""
    summaries = {entry.name: entry.summary for entry in methods()}
    rows = ["| method | dataset | config | status |", "|---|---|---|---|"]
    for name, summary in summaries.items():
        own = [config for config in configs if config.method == name]
        first = f"**{name}**: {summary}".replace("|", "\\|")
        if not own:
            rows.append(f"| {first} | | | |")
        for place, config in enumerate(own):
            status = config.status + (f"; {config.note}" if config.note else "")
            rows.append(f"| {'' if place else first} | {config.dataset} | `{config.name}.yaml` | {status} |")
    meaning = "; ".join(f"`{status}`: {text}" for status, text in STATUSES.items())
    return "\n".join([*rows, "", f"Status: {meaning}."])


def write_readme(path: Path, configs: Sequence[Config]) -> None:
    """Rewrite the table between the two comments of a README.

    Raises:
        UsageError: If the file is missing or lacks a comment.
    """
    if not path.is_file():
        raise UsageError(f"No file {path} to write the table into.")
    text = path.read_text()
    updated = readme_with(text, configs)
    if updated != text:
        part = path.with_name(f"{path.name}.part")
        part.write_text(updated)
        os.replace(part, path)
    print(f"{path}: {'rewritten' if updated != text else 'up to date'}")


def readme_with(text: str, configs: Sequence[Config]) -> str:
    """The text of a README with the table as it is now.

    Raises:
        UsageError: If the two comments are not there.
    """
    before, start, rest = text.partition(README_START)
    _, end, after = rest.partition(README_END)
    if not start or not end:
        raise UsageError(f"The README has no place for the table; put {README_START} and {README_END} on two lines.")
    return f"{before}{start}\n{markdown(configs)}\n{end}{after}"


def _print_tables(configs: Sequence[Config]) -> None:
    from rich.console import Console

    console = Console()
    _print(
        console,
        "Methods",
        methods(),
        {"method": lambda e: e.name, "family": lambda e: e.family, "": lambda e: e.summary},
    )
    _print(console, "Datasets", datasets(), {"dataset": lambda e: e.name, "": lambda e: e.summary})
    _print(
        console,
        "Configs (--config NAME)",
        configs,
        {"config": lambda c: c.name, "": lambda c: c.title, "status": lambda c: c.status},
    )


def _print(console: object, title: str, rows: Sequence, columns: Mapping[str, Callable[..., str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(columns):
        table.add_column(heading, no_wrap=place == 0)
    for row in rows:
        table.add_row(*(column(row) for column in columns.values()))
    console.print(table)
