"""`lightning_zoo retrieve`: clips that move, or look, like given ones, and how far their keypoints say so."""

from __future__ import annotations

from typing import Literal

from .errors import UsageError


def retrieve(
    ckpt_path: list[str] | str,
    *,
    by: Literal["dynamics", "statics"] | None = None,
    queries: Literal["train", "val", "test"] = "test",
    database: Literal["train", "val", "test"] = "train",
    num_queries: int | None = 1000,
    num_database: int | None = None,
    metric: Literal["zscored_l2", "cosine"] = "zscored_l2",
    clips: list[str] | None = None,
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
    clip answers a query of its own video, nor of its own actor where actors are known. A second table has what is
    retrieved for the queries that are shown.

    Args:
        ckpt_path: one or several checkpoints of video methods, or `last` or `best`; the first one's dataset is used.
        by: dynamics P or statics S of a method that has both; null for P, and for what other methods have.
        queries: split of the queries.
        database: split that is searched.
        num_queries: at most; null for all.
        num_database: at most; null for all. Of Moving MNIST, which is drawn without end, null is what an epoch has, and
            more can be had.
        metric: zscored_l2, in standard deviations of the database's features, or cosine.
        clips: queries in the picture and the video, by their rows in the split, from 0, or by names of videos, whose
            first clip is meant; null for the first ones, of different videos.
        num_shown: how many of these.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; JSON and mp4 lie beside it; null for pictures/retrieve.png in the first checkpoint's run.
        published: show the thesis' values beside, those of the full budget.
        seed: of the bootstrap intervals.
        device: where to compute.
        log: add result and picture to the first checkpoint's MLflow run.
    """
    from . import retrieval, retrieval_report
    from .allocator import keep_freed_memory
    from .pictures import destination
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, mistakes
    from .video_data import facts_of, feature_of, load_video, video_data_of

    quiet()
    keep_freed_memory()
    check_numbers(seed, num_queries=num_queries, num_database=num_database, num_shown=num_shown)
    for name, values in (("ckpt_path", ckpt_path), ("clips", clips)):
        if values is not None and not values:
            raise UsageError(f"--{name}: none is given")
    paths = [find_checkpoint(path) for path in ([ckpt_path] if isinstance(ckpt_path, str) else ckpt_path)]
    target, folder = destination(output, paths[0], "retrieve" + f"_{by}" * (by is not None))
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    wanted = "StaticsDynamics, VideoClassifier or VideoAutoencoder"
    models = [load_video(path, device, "retrieve", wanted=wanted) for path in paths]
    features = [feature_of(model, path, by) for model, path in zip(models, paths, strict=True)]
    methods = retrieval.methods_of(models, features, paths)
    data = video_data_of(paths[0], root)
    retrieval.check_alike(models, paths, data, root)
    print(f"Encoding {num_queries or 'all'} queries and {num_database or 'all'} clips to search, at most")
    with mistakes():
        asked = facts_of(models, features, data, queries, num_queries)
        shown = retrieval.shown_queries(data, asked, clips, num_shown)
        searched = facts_of(models, features, data, database, num_database)
        limits = retrieval.limits_of(data, asked, searched, queries == database)
        answers = retrieval.answers_of(asked, searched, metric, limits)
        judge = retrieval.judge_of(data, asked, searched, limits, seed)
        found = zip(methods, answers, strict=True)
        rows = judge.table({method.name: answer.indices for method, answer in found}) if judge else {}
    pairs = retrieval.pairs_shown(data, shown, (asked, searched), methods, answers, rows)
    retrieval_report.show(rows, methods, answers, data, published, f"{queries} -> {database}")
    retrieval_report.show_pairs(pairs)
    retrieval_report.draw(data, (queries, database), shown, methods, answers, target, log)
    settings = {"queries": queries, "database": database, "metric": metric, "seed": seed}
    settings |= {"num_queries": len(asked.videos), "num_database": len(searched.videos)}
    retrieval_report.write(rows, pairs, methods, answers, settings, target.with_suffix(".json"), log)
