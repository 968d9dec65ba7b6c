"""`lightning_zoo retrieve`: clips that move, or look, like given ones, and how far their keypoints say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from lightning_zoo.metrics.keypoint_displacement import DistanceRow, RetrievalDistance

    from .video_data import ClipFacts

PUBLISHED_COLUMN = {
    "VideoClassifier": "classification",
    "VideoAutoencoder": "reconstruction",
    "StaticsDynamics": "ours",
}
"""Of Table 7.1."""


def retrieve(
    ckpt_path: list[str],
    *,
    by: Literal["dynamics", "statics"] | None = None,
    queries: Literal["train", "val", "test"] = "test",
    database: Literal["train", "val", "test"] = "train",
    num_queries: int | None = 1000,
    num_database: int | None = 10_000,
    metric: Literal["zscored_l2", "cosine"] = "zscored_l2",
    num_shown: int = 6,
    root: str | None = None,
    output: str | None = None,
    published: bool = False,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Find the nearest clip of a database for each query by a method's features, and judge it by keypoints (Table 7.1).

    The distance is that of the keypoints' displacements from frame to frame: neither where things are nor what they
    look like counts. Beside the methods stand a clip drawn at random and the nearest clip by this distance itself. No
    clip answers a query of its own video, nor of its own actor where actors are known.

    Args:
        ckpt_path: one or several checkpoints of video methods, or `last` or `best`; the first one's dataset is used.
        by: dynamics P or statics S of a method that has both; null for P.
        queries: split of the queries.
        database: split that is searched.
        num_queries: at most; null for all.
        num_database: at most; null for all.
        metric: zscored_l2, in standard deviations of the database's features, or cosine.
        num_shown: queries in the picture and the video.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; JSON and mp4 lie beside it; null for pictures/retrieve.png in the first checkpoint's run.
        published: show the thesis' values beside, those of the full budget.
        seed: of the bootstrap intervals.
        device: where to compute.
        log: add result and picture to the first checkpoint's MLflow run.
    """
    from .allocator import keep_freed_memory
    from .pictures import destination
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, mistakes
    from .video_data import facts_of, feature_of, load_video, video_data_of

    quiet()
    keep_freed_memory()
    check_numbers(seed, num_queries=num_queries, num_database=num_database, num_shown=num_shown)
    if not ckpt_path:
        raise UsageError("--ckpt_path: no checkpoint is given")
    paths = [find_checkpoint(path) for path in ckpt_path]
    target, folder = destination(output, paths[0], "retrieve" + f"_{by}" * (by is not None))
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    models = [load_video(path, device, "retrieve") for path in paths]
    names = [feature_of(model, path, by) for model, path in zip(models, paths, strict=True)]
    data = video_data_of(paths[0], root)
    _check_alike(models, paths)
    with mistakes():
        asked = facts_of(models, names, data, queries, num_queries)
        searched = facts_of(models, names, data, database, num_database)
        found, row_names = _nearest(models, names, asked, searched, metric, queries == database)
        judge = _judge(data, asked, searched, queries == database, seed)
        rows = judge.table(dict(zip(row_names, found, strict=True))) if judge else {}
    _show(rows, models, row_names, data, published, f"{queries} -> {database}")
    settings: dict[str, Any] = {
        "queries": queries,
        "database": database,
        "metric": metric,
        "num_queries": len(asked.videos),
    }
    settings |= {"num_database": len(searched.videos), "checkpoints": [str(path) for path in paths]}
    _draw(data, queries, database, found, row_names, num_shown, target, paths[0], log)
    _write(target.with_suffix(".json"), rows, settings, paths[0], log)


def _check_alike(models: Sequence[Any], paths: Sequence[Path]) -> None:
    for model, path in zip(models, paths, strict=True):
        if (model.num_frames, model.frame_shape) != (models[0].num_frames, models[0].frame_shape):
            raise UsageError(
                f"--ckpt_path: {path} takes clips of another shape than {paths[0]}; compare them one by one"
            )


def _limits(asked: ClipFacts, searched: ClipFacts, same_split: bool) -> dict[str, Any]:
    """Which clips may not answer a query: of the same actor, or of the same video."""
    if asked.actors is not None and searched.actors is not None:
        return {"forbidden": (asked.actors, searched.actors)}
    return {"forbidden": (asked.videos, searched.videos)} if same_split else {}


def _nearest(
    models: Sequence[Any], names: Sequence[str], asked: ClipFacts, searched: ClipFacts, metric: Any, same_split: bool
) -> tuple[list[Tensor], list[str]]:
    from lightning_zoo.metrics.nearest_neighbours import nearest

    limits = _limits(asked, searched, same_split)
    found = [
        nearest(ours, theirs, 1, metric, **limits).indices[:, 0]
        for ours, theirs in zip(asked.features, searched.features, strict=True)
    ]
    labels = [f"{type(model).__name__}, {name}" for model, name in zip(models, names, strict=True)]
    return found, [f"{n} ({labels[: i + 1].count(n)})" if labels.count(n) > 1 else n for i, n in enumerate(labels)]


def _judge(data: Any, asked: ClipFacts, searched: ClipFacts, same_split: bool, seed: int) -> RetrievalDistance | None:
    from lightning_zoo.metrics.keypoint_displacement import RetrievalDistance

    if asked.keypoints is None or searched.keypoints is None:
        return None
    unordered = bool(getattr(data, "keypoints_unordered", False))
    return RetrievalDistance(
        asked.keypoints,
        searched.keypoints,
        reduction="sum" if unordered else "mean",
        unordered=unordered,
        videos=asked.videos,
        seed=seed,
        **_limits(asked, searched, same_split),
    )


def published_distances(data: Any) -> dict[str, float]:
    """Table 7.1 for a dataset, by column; empty where it has none."""
    table = json.loads(files("lightning_zoo.video").joinpath("published_video.json").read_text())
    own = table["displacement"].get(type(data).__name__, {})
    return {} if getattr(data, "digits", "mnist") != "mnist" else own


def _show(
    rows: Mapping[str, DistanceRow], models: Sequence[Any], names: Sequence[str], data: Any, published: bool, what: str
) -> None:
    from .probe_report import console

    if not rows:
        print(f"{type(data).__name__} has no keypoints: retrieved clips are shown, not judged.")
        return
    known = published_distances(data) if published else {}
    columns = {name: PUBLISHED_COLUMN.get(type(m).__name__, "") for m, name in zip(models, names, strict=True)}
    console().print(_table(rows, columns, known, f"Displacement of keypoints in pixels, {data.name}, {what}"))
    if published:
        said = "full budget, and a reduction that the thesis does not state" if known else "none for these data"
        print(f"publ.: thesis, Table 7.1; {said}.")


def _table(
    rows: Mapping[str, DistanceRow], columns: Mapping[str, str], known: Mapping[str, float], title: str
) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("retrieved by")
    for column in ("mean", "95 % interval", "judged", *(["publ."] if known else [])):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        interval = "-" if isnan(row.low) else f"{row.low:.2f} to {row.high:.2f}"
        cells = [name, f"{row.mean:.2f}", interval, str(row.judged)]
        value = known.get(columns.get(name, ""))
        table.add_row(*cells, *(["-" if value is None else f"{value:g}"] if known else []))
    return table


def _draw(
    data: Any,
    queries: Any,
    database: Any,
    found: Sequence[Tensor],
    names: Sequence[str],
    number: int,
    target: Path,
    checkpoint: Path,
    log: bool,
) -> None:
    """Each query with what every method retrieves for it below."""
    from .pictures import write_grid
    from .video_data import clips_at
    from .video_files import side_by_side, strips, write_mp4

    shown = range(min(number, len(found[0])))
    asked = clips_at(data, queries, list(shown))
    answers = [clips_at(data, database, indices[: len(shown)].tolist()) for indices in found]
    rows = [clip for place in shown for clip in (asked[place], *(each[place] for each in answers))]
    print(f"Rows: a query, then what is retrieved by {'; '.join(names)}; and so on")
    write_grid(target, strips(rows), checkpoint, log)
    write_mp4(target.with_suffix(".mp4"), side_by_side(rows))


def _write(file: Path, rows: Mapping[str, DistanceRow], settings: dict[str, Any], checkpoint: Path, log: bool) -> None:
    from .score_report import add_entry
    from .trained import run_folder

    if not rows:
        return
    plain = {name: _plain(row) for name, row in rows.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    add_entry(file, f"{checkpoint.stem}_{settings['queries']}_in_{settings['database']}", settings | {"rows": plain})
    print(f"Written to {file}")
    noted = run_folder(checkpoint) / "mlflow_run_id"
    if log and noted.is_file():
        from lightning_zoo.callbacks.mlflow_store import log_to_run

        values = {f"retrieve/{name}": row["mean"] for name, row in plain.items() if row["mean"] is not None}
        log_to_run(noted.read_text().strip(), values, [file])


def _plain(row: DistanceRow) -> dict[str, float | None]:
    values = {"mean": row.mean, "low": row.low, "high": row.high, "judged": row.judged}
    return {name: None if isnan(value) else value for name, value in values.items()}
