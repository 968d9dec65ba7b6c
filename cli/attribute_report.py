"""What `lightning_zoo attributes` prints: tables per attribute, published values, and how they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import fsum, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SHORT_NAMES = {
    "ConditionalVAE": "cVAE",
    "ConditionalGAN": "cGAN",
    "ConditionalVAEGAN": "cVAE-GAN",
    "ConditionalCRVAEGAN": "crVAE-GAN",
    "ACVAEGAN": "acVAE-GAN",
}
"""The methods as the thesis calls them."""

SCORES = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Accuracies:
    """What came out.

    Attributes:
        names: of the N attributes that were judged.
        frequencies: (N) share of the real images that have each.
        chance: (N) accuracy of the answer that was the more frequent one in training, nan where that is not known.
        rows: "real" and each method to "accuracy" and "balanced_accuracy", (N) each.
        data: where the real images are from.
        judge: the classifier.
        models: the methods, in the order of their rows.
        settings: "split", "num_images" and "seed".
    """

    names: list[str]
    frequencies: list[float]
    chance: list[float]
    rows: Mapping[str, Mapping[str, list[float]]]
    data: Any
    judge: Any
    models: list[Any]
    settings: Mapping[str, Any]


def labels_of(models: Sequence[Any], paths: Sequence[Path]) -> list[str]:
    """A column's name for each method, with a number where two are of one kind."""
    names = [SHORT_NAMES.get(type(model).__name__, type(model).__name__) for model in models]
    return [f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are numbers, nan if none is."""
    known = [value for value in values if not isnan(value)]
    return fsum(known) / len(known) if known else nan


@cache
def published_values() -> dict[str, Any]:
    """Table 6.3 of the thesis, in %; see "about" and "note" in the file."""
    return json.loads(files("lightning_zoo.generative").joinpath("published_attributes.json").read_text())


def published_columns(measured: Accuracies, models: Sequence[Any]) -> dict[str, dict[str, float]]:
    """The published columns, in %, by attribute and "average": of real images, and of the methods at hand or else all.

    Empty where nothing was published for this image size.
    """
    size, content = str(measured.judge.image_shape[1]), published_values()
    averages = content["average"].get(size, {})
    own = {type(model).__name__ for model in models} & averages.keys() or averages.keys()
    cells = content["per_attribute"].get(size, {})
    return {
        SHORT_NAMES.get(method, method): {"average": average} | cells.get(method, {})
        for method, average in averages.items()
        if method == "real" or method in own
    }


def tables(measured: Accuracies, beside: Mapping[str, Mapping[str, float]]) -> list[Table]:
    """Accuracy per attribute with chance and published values, and balanced accuracy, both in %."""
    first = {"share": measured.frequencies, "chance": measured.chance}
    plain, balanced = ({name: row[score] for name, row in measured.rows.items()} for score in SCORES)
    title = f"Accuracy of attributes in %, {type(measured.data).__name__} {measured.settings['split']}"
    return [
        _table(title, measured.names, first | plain, beside),
        _table("Balanced accuracy in %, chance is 50", measured.names, balanced, {}),
    ]


def _table(
    title: str,
    names: Sequence[str],
    columns: Mapping[str, Sequence[float]],
    beside: Mapping[str, Mapping[str, float]],
) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title)
    made.add_column("attribute", no_wrap=True)
    for name in columns:
        made.add_column(name, justify="right", style="dim" if name in ("share", "chance") else None)
    for name in beside:
        made.add_column(f"{name} publ.", justify="right", style="dim")
    for place, name in enumerate(names):
        cells = [_percent(values[place]) for values in columns.values()]
        made.add_row(name, *cells, *(_cell(values.get(name)) for values in beside.values()))
    made.add_section()
    means = [_percent(mean(values)) if name != "share" else "" for name, values in columns.items()]
    made.add_row("average", *means, *(_cell(values["average"]) for values in beside.values()), style="bold")
    return made


def _percent(value: float) -> str:
    return "-" if isnan(value) else f"{100 * value:.1f}"


def _cell(value: float | None) -> str:
    return "-" if value is None else str(value)


def caption(
    measured: Accuracies, classifier: str, paths: Sequence[Path], beside: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """How the accuracies were measured, a line each."""
    from .score_report import crop_of, fingerprint_hash

    data, judge, number = measured.data, measured.judge, measured.settings["num_images"]
    source = str(getattr(data, "fingerprint", {}).get("source", type(data).__name__))
    lines = [
        f"{label}: {type(model).__name__} from {path}, {_size(model)}, seed {measured.settings['seed']}, one image "
        "drawn by the attributes of each real one"
        for label, model, path in zip(list(measured.rows)[1:], measured.models, paths, strict=True)
    ]
    lines.append(
        f"real: {number} images of {type(data).__name__} {measured.settings['split']} ({source}), {_size(data)}, crop: "
        f"{crop_of(data)}, fingerprint {fingerprint_hash(data)}"
    )
    lines.append(f"classifier: {classifier}, {_size(judge)}")
    left = [name for name in judge.attribute_names if name not in measured.names]
    undrawn = f"not drawn by, so not judged: {', '.join(left)}"
    lines += [undrawn] * bool(left)
    lines.append("chance: always the answer that was the more frequent one among the classifier's training images")
    if beside:
        lines.append(
            "publ.: table 6.3 of the thesis, on CelebA with the authors' own classifier; cells that are left out "
            "cannot be right as printed"
        )
    return lines


def _size(owner: Any) -> str:
    return "x".join(map(str, owner.image_shape))
