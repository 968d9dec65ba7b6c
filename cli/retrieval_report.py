"""What `lightning_zoo retrieve` prints and writes: tables, strips of what was retrieved, JSON, the run in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lightning_zoo.metrics.keypoint_displacement import DistanceRow

    from .image_data import Split
    from .retrieval import Answers, Method


def published_distances(data: Any) -> dict[str, float]:
    """Table 7.1 for a dataset, by column; empty where it has none."""
    table = json.loads(files("lightning_zoo.video").joinpath("published_video.json").read_text())
    own: dict[str, float] = table["displacement"].get(type(data).__name__, {})
    return {} if getattr(data, "digits", "mnist") != "mnist" else own


def published_column(model: Any, feature: str) -> str | None:
    """Which column of Table 7.1 has the features of a method; None for features that it does not have."""
    kind = type(model).__name__
    if kind == "VideoClassifier":
        # Fine-tuning pools; the table's classifier has a layer as large as P.
        return "classification" if model.hparams["head"] == "features" else None
    known = {("VideoAutoencoder", "features"): "reconstruction", ("StaticsDynamics", "dynamics"): "ours"}
    return known.get((kind, feature))


def show(
    rows: Mapping[str, DistanceRow],
    methods: Sequence[Method],
    answers: Sequence[Answers],
    data: Any,
    published: bool,
    what: str,
) -> None:
    """Print how far what was retrieved moves from its queries."""
    from .probe_report import console

    if not rows:
        print(f"{type(data).__name__} has no keypoints: retrieved clips are shown, not judged.")
        return
    known = published_distances(data) if published else {}
    columns = {method.name: known.get(published_column(method.model, method.feature) or "") for method in methods}
    sizes = {method.name: answer.size for method, answer in zip(methods, answers, strict=True)}
    beside = columns if known else None
    console().print(table_of(rows, sizes, beside, f"Displacement in pixels, {data.name}, {what}"))
    if len(set(sizes.values())) > 1:
        print("D: size of the features; those of the thesis' table are of one size.")
    if published:
        said = "full budget, and a reduction that the thesis does not state" if known else "none for these data"
        print(f"publ.: thesis, Table 7.1; {said}.")


def table_of(
    rows: Mapping[str, DistanceRow], sizes: Mapping[str, int], known: Mapping[str, float | None] | None, title: str
) -> Table:
    """A row per method, between random and oracle.

    Args:
        rows: by name.
        sizes: of the features, by name.
        known: published values by name, for a column of them.
        title: of the table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("retrieved by")
    for column in ("D", "mean", "95 % interval", "judged", *([] if known is None else ["publ."])):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        interval = "-" if isnan(row.low) else f"{row.low:.2f} to {row.high:.2f}"
        cells = [name, str(sizes.get(name, "-")), f"{row.mean:.2f}", interval, str(row.judged)]
        value = None if known is None else known.get(name)
        table.add_row(*cells, *([] if known is None else ["-" if value is None else f"{value:g}"]))
    return table


def show_pairs(pairs: Sequence[Mapping[str, Any]]) -> None:
    """Print what was retrieved for the queries that are shown."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from .probe_report import console

    table = Table(title="Queries shown: clip, video, class", box=SIMPLE_HEAD)
    for column in ("query", "by", "retrieved"):
        table.add_column(column)
    for column in ("features", "pixels"):
        table.add_column(column, justify="right")
    for pair in pairs:
        clips = [", ".join(map(str, pair[name].values())) for name in ("query", "retrieved")]
        apart = "-" if pair["displacement"] is None else f"{pair['displacement']:.2f}"
        table.add_row(clips[0], pair["by"], clips[1], f"{pair['feature_distance']:.3g}", apart)
    console().print(table)


def draw(
    data: Any,
    splits: tuple[Split, Split],
    queries: Sequence[int],
    methods: Sequence[Method],
    answers: Sequence[Answers],
    target: Path,
    log: bool,
) -> None:
    """Write each query with what every method retrieves for it below, as a picture and an mp4."""
    from .pictures import write_grid
    from .video_data import clips_at
    from .video_files import side_by_side, strips, write_mp4

    asked = clips_at(data, splits[0], queries)
    found = [clips_at(data, splits[1], answer.indices[list(queries)].tolist()) for answer in answers]
    rows = [clip for place in range(len(queries)) for clip in (asked[place], *(each[place] for each in found))]
    print(f"Rows: a query, then what is retrieved by {'; '.join(method.name for method in methods)}; and so on")
    write_grid(target, strips(rows), methods[0].path, log)
    write_mp4(target.with_suffix(".mp4"), side_by_side(rows))


def write(
    rows: Mapping[str, DistanceRow],
    pairs: Sequence[Mapping[str, Any]],
    methods: Sequence[Method],
    answers: Sequence[Answers],
    settings: Mapping[str, Any],
    file: Path,
    log: bool,
) -> None:
    """Put the result into a JSON file, beside those of other methods, splits and metrics, and into the run."""
    from .video_files import write_result

    plain = {name: _plain(row) for name, row in rows.items()}
    described = {
        method.name: {"checkpoint": str(method.path), "feature": method.feature, "size": answer.size}
        for method, answer in zip(methods, answers, strict=True)
    }
    where = f"{settings['queries']}_in_{settings['database']}_{settings['metric']}"
    name = f"{where}: {'; '.join(f'{method.feature} of {method.path}' for method in methods)}"
    entry = dict(settings) | {"methods": described, "rows": plain, "shown": list(pairs)}
    values = {f"retrieve/{where}/{row}": numbers["mean"] for row, numbers in plain.items()}
    write_result(file, name, entry, values, methods[0].path, log)


def _plain(row: DistanceRow) -> dict[str, float | None]:
    values = {"mean": row.mean, "low": row.low, "high": row.high, "judged": row.judged}
    return {name: None if isnan(value) else value for name, value in values.items()}
