"""`lightning_zoo recognize`: what linear classifiers make of the statics and the dynamics of clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from .image_data import Split
    from .recognition import Examples, FoldScores, Protocol
    from .recognition_clips import Recognized


def recognize(
    ckpt_path: list[str] | str,
    *,
    by: Literal["both", "statics", "dynamics"] | None = None,
    protocol: Literal["leave_one_actor_out", "split"] | None = None,
    epochs: int = 100,
    learning_rate: float = 1e-2,
    weight_decay: float = 0.01,
    hidden_size: int = 128,
    batch_size: int = 32,
    num_clips: int | None = None,
    num_shown: int = 6,
    root: str | None = None,
    output: str | None = None,
    published: bool = False,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Recognize what clips show by one linear classifier on statics S and dynamics P, which stay as they are.

    A learned scalar weighs S against P for each clip (thesis, section 7.5.3). A video's clips answer together, by the
    mean of their logits, in training and in testing. With protocol split and data without actors, one linear layer on S
    stands beside one on each frame's features of BlockSTN, whose answers are votes (section 7.4.4).

    Checkpoints of VideoClassifier, fine-tuned or from scratch, are only tested, each on those whom its own run held
    out: one per fold gives the means of Table 7.3. Of the options, num_clips, root, output, published, device and log
    count then.

    Args:
        ckpt_path: a checkpoint of StaticsDynamics, or `last` or `best` for the newest run's; or one or several of
            VideoClassifier, one per fold.
        by: both with the scalar between them, or one linear layer on statics or dynamics; null for both where actors
            are known, else for statics.
        protocol: leave_one_actor_out trains on all other actors' clips for each actor, split on those of the training
            split for the test split; null for the first where actors are known.
        epochs: over the training videos.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        hidden_size: of what S and P are mapped to before they are weighed.
        batch_size: videos per step.
        num_clips: at most, of each split; null for all.
        num_shown: videos in the picture, which shows a for each clip.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; JSON lies beside it; null for pictures/recognize.png in the checkpoint's run.
        published: show the thesis' values beside, those of the full budget.
        seed: of weights and order.
        device: where to compute.
        log: add result and picture to the checkpoint's MLflow run.
    """
    from . import recognition_report as report
    from .allocator import keep_freed_memory
    from .pictures import destination
    from .quiet import quiet
    from .recognition_folds import recognize_folds
    from .trained import check_numbers, find_checkpoint, mistakes, pick_device
    from .video_data import load_video, video_data_of

    quiet()
    keep_freed_memory()
    counts = {"epochs": epochs, "hidden_size": hidden_size, "batch_size": batch_size}
    check_numbers(seed, **counts, num_clips=num_clips, num_shown=num_shown)
    _check_rates(learning_rate, weight_decay)
    if not ckpt_path:
        raise UsageError("--ckpt_path: none is given")
    paths = [find_checkpoint(each) for each in ([ckpt_path] if isinstance(ckpt_path, str) else ckpt_path)]
    path = paths[0]
    target, folder = destination(output, path, "recognize")
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    either = "StaticsDynamics or VideoClassifier"
    model = load_video(path, device, "recognize", ("swap", "class_logits"), wanted=either)
    if hasattr(model, "class_logits"):
        _refuse(by=by, protocol=protocol)
        recognize_folds(paths, root, num_clips, published, target, device, log)
        return
    if len(paths) > 1:
        raise UsageError(
            f"--ckpt_path: {path} holds {type(model).__name__}, whose folds are made here: give one checkpoint; "
            "several are those of VideoClassifier"
        )
    data = video_data_of(path, root)
    with mistakes():
        data.prepare_data()
        data.setup("fit")
        chosen, parts = _choose(data, protocol, by)
        rates = {"learning_rate": learning_rate, "weight_decay": weight_decay, "seed": seed}
        how = _protocol(data, parts, device=pick_device(device), **counts, **rates)
        found = _recognized(model, data, chosen, how, num_clips)
    known = report.published_accuracies(data, chosen, parts) if published else {}
    report.show(found, data, chosen, how, known, asked=published)
    report.draw(found, data, num_shown, target, path, log)
    report.write(found, data, chosen, how, target.with_suffix(".json"), path, log)


def _refuse(**options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} {value}: a VideoClassifier is tested as it is; leave the option out")


def _check_rates(learning_rate: float, weight_decay: float) -> None:
    if not learning_rate > 0:
        raise UsageError(f"--learning_rate must be positive, got {learning_rate}")
    if not weight_decay >= 0:
        raise UsageError(f"--weight_decay must be 0 or more, got {weight_decay}")


def _choose(data: Any, protocol: Any, by: Any) -> tuple[str, str]:
    """The protocol and the parts that are meant.

    Raises:
        UsageError: for data without classes, or without the actors that the protocol needs.
    """
    name, several = type(data).__name__, len(set(getattr(data, "actors", None) or [])) > 1
    if not getattr(data, "class_names", None):
        way_out = "; its folders are classes after fit with --data.labels true" if hasattr(data, "labels") else ""
        raise UsageError(f"{name}, which the checkpoint was trained on, has no classes to recognize{way_out}")
    if protocol == "leave_one_actor_out" and not several:
        raise UsageError(f"--protocol leave_one_actor_out: {name} knows of no two actors; give --protocol split")
    return protocol or ("leave_one_actor_out" if several else "split"), by or ("both" if several else "statics")


def _protocol(data: Any, by: Any, **settings: Any) -> Protocol:
    from .recognition import Protocol

    return Protocol(len(data.class_names), by, **settings)


def _recognized(model: Any, data: Any, chosen: str, how: Protocol, number: int | None) -> Recognized:
    from .probe_report import console
    from .recognition import folds_by_actor, recognize_fold
    from .recognition_clips import Recognized, collected

    splits: tuple[Split, ...] = ("train", "test") if chosen == "split" else ("train", "val", "test")
    with console().status("encoding clips"):
        examples, places, actors = collected(model, data, splits, number)
    if chosen == "split":
        rows: dict[str, list[FoldScores]] = {how.by: [_of_the_split(examples, places, how)]}
        if how.by == "statics" and getattr(data, "actors", None) is None:
            rows["frame votes"] = [_frame_votes(model, data, how, number)]
        return Recognized(rows, examples, places)
    if len(actors.unique()) < 2:
        raise UsageError(f"--num_clips {number} leaves the clips of one actor alone: give more, or leave it out")
    names = sorted(set(data.actors))
    folds = [
        recognize_fold(examples, train, test, how, names[actor], fold)
        for fold, (actor, train, test) in enumerate(folds_by_actor(actors))
    ]
    return Recognized({how.by: folds}, examples, places)


def _of_the_split(examples: Examples, places: list[tuple[Split, int]], how: Protocol) -> FoldScores:
    import torch

    from .recognition import recognize_fold

    of_test = torch.tensor([split == "test" for split, _ in places])
    train, test = ((of_test == wanted).nonzero().flatten() for wanted in (False, True))
    return recognize_fold(examples, train, test, how, "test split", 0)


def _frame_votes(model: Any, data: Any, how: Protocol, number: int | None) -> FoldScores:
    from .recognition import recognize_by_frames
    from .recognition_clips import frames_of

    train, test = (frames_of(model, data, split, number) for split in ("train", "test"))
    return recognize_by_frames(train, test, how, "test split")
