"""`lightning_zoo traverse`: walks through the latent blocks of a generative method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


OF_MODE = {
    "step": ("interpolate",),
    "columns": ("interpolate", "content", "attribute"),
    "shared_target": ("interpolate",),
    "start": ("interpolate",),
    "images": ("interpolate",),
    "attribute": ("attribute",),
    "classifier": ("progressive",),
}
"""The modes that each option belongs to."""


def traverse(
    ckpt_path: str,
    *,
    mode: Literal["progressive", "interpolate", "content", "attribute"] = "progressive",
    step: int | None = None,
    columns: int | None = None,
    shared_target: bool = False,
    start: Literal["prior", "posterior"] | None = None,
    attributes: list[str] | None = None,
    attribute: str | None = None,
    classifier: str | None = None,
    num_judged: int = 512,
    num_images: int = 8,
    images: list[str] | None = None,
    split: Literal["val", "test"] = "val",
    root: str | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    output: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw the latent blocks z_1 ... z_T in turn, or move one of them, or all, while the rest stays.

    Each row is one image: "progressive" starts with all latents zero and draws one block more per column;
    "interpolate" moves the block z_t in a straight line to a newly drawn one; "content" moves all blocks from one draw
    to another, Z = cos^2(psi) Z_1 + (1 - cos^2(psi)) Z_2 with psi from 0 to 90 degrees. A method that draws by
    attributes takes blocks of its conditional prior, and for each row a combination of attributes seen in training:
    "progressive" adds with each block what its step reads of them, and "attribute" turns one attribute from -1 to +1
    with the same noise.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        mode: what changes along a row.
        step: t, counted from 1, of the block that moves.
        columns: images per row, both ends among them, of all modes but "progressive"; null for 9.
        shared_target: all rows move to the same new block, as in the thesis; by attributes, to blocks of one noise.
        start: rows of "interpolate" start from samples of the "prior", or from the "posterior" means of images; null
            for the prior, unless files are given.
        attributes: what all rows show, such as `Smiling Eyeglasses -Male`; all else is as it was in training.
        attribute: the one that turns in "attribute".
        classifier: checkpoint of an AttributeClassifier, for "progressive": print and write at which block it begins
            to see each attribute.
        num_judged: samples that the classifier looks at.
        num_images: rows.
        images: picture files of your own to start from.
        split: of the dataset that the checkpoint was trained on.
        root: the dataset's folder, if it is not where it was.
        seed: of what is drawn.
        truncation: factor of what is drawn.
        output: a PNG file for a grid, or a folder, with / at its end, for a file each; null for pictures/ in the
            checkpoint's run.
        batch_size: images at a time.
        device: where to compute.
        log: add the grid to the checkpoint's MLflow run.
    """
    from lightning_zoo.generative.conditional_model import is_conditional

    from .conditional_walks import classifier_logits
    from .pictures import destination
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes

    quiet()
    check_numbers(seed, num_images=num_images, batch_size=batch_size, num_judged=num_judged)
    if not 0 <= truncation < float("inf"):
        raise UsageError(f"--truncation must be 0 or more, got {truncation}")
    if start == "prior" and images is not None:
        raise UsageError("--start prior: samples start from no picture; leave out --images, or give --start posterior")
    options: dict[str, Any] = {"step": step, "columns": columns, "shared_target": shared_target or None}
    options |= {"start": start, "images": images, "attribute": attribute, "classifier": classifier}
    _check_mode(mode, options)
    path = find_checkpoint(ckpt_path)
    target = destination(output, path, f"{_name(mode, options, attributes)}_seed{seed}")
    model = load_generative(path, device, "traverse")
    drawn: dict[str, Any] = {"seed": seed, "truncation": truncation, "batch_size": batch_size}
    source: dict[str, Any] = {"split": split, "root": root, "number": num_images}
    with mistakes():
        if is_conditional(model):
            logits = None if classifier is None else classifier_logits(classifier, model, device)
            _by_attributes(model, path, mode, options, attributes or [], num_images, drawn, target, log)
            if logits is not None:
                _judge(model, logits, num_judged, drawn, target)
            return
        if attributes is not None or mode == "attribute" or classifier is not None:
            raise UsageError(
                f"{path} holds {type(model).__name__}, which draws without attributes: leave out --attributes, --mode "
                "attribute and --classifier"
            )
        rows, labels = _without_attributes(model, path, mode, options, source, drawn)
    if model.num_steps == 1:
        print(f"{type(model).__name__} has no recurrency: one latent block, z_1, is all there is.")
    _write(target, rows, labels, path, log)


def _check_mode(mode: str, options: dict[str, Any]) -> None:
    wrong = [name for name, value in options.items() if value is not None and mode not in OF_MODE[name]]
    alike = [name for name in wrong if OF_MODE[name] == OF_MODE[wrong[0]]]
    if alike:
        given, modes = ", ".join(f"--{name}" for name in alike), " or ".join(OF_MODE[alike[0]])
        raise UsageError(f"{given}: of --mode {modes} alone; add it, or leave them out")


def _name(mode: str, options: dict[str, Any], attributes: list[str] | None) -> str:
    """Of the picture."""
    from .sample import words_in_a_name

    step, attribute = options["step"], options["attribute"]
    from_images = options["start"] == "posterior" or options["images"] is not None
    name = f"traverse_{mode}" + f"_step{step}" * (step is not None) + "_posterior" * from_images
    name += "_shared" * bool(options["shared_target"]) + words_in_a_name([attribute] if attribute else None)
    return name + "_with" * bool(attributes) + words_in_a_name(attributes)


def _without_attributes(
    model: Any, path: Path, mode: str, options: dict[str, Any], source: dict[str, Any], drawn: dict[str, Any]
) -> tuple[Tensor, list[str]]:
    """Images (rows, columns, C, H, W), and the columns' labels."""
    import lightning_zoo.generative.traversal as traversal
    from lightning_zoo.generative.conditional_traversal import content

    from .conditional_walks import angle_labels, block_labels, shares

    number, columns = source["number"], 9 if options["columns"] is None else options["columns"]
    if mode == "progressive":
        return traversal.progressive(model, number, **drawn), block_labels(model.num_steps)
    if mode == "content":
        return content(model, num_rows=number, columns=columns, **drawn), angle_labels(columns)
    first = None
    if options["start"] == "posterior" or options["images"] is not None:
        first = _first(model, path, options, source, drawn["batch_size"])
    rows = traversal.interpolate(
        model,
        _step(options["step"], model.num_steps),
        num_rows=number,
        columns=columns,
        shared_target=bool(options["shared_target"]),
        start=first,
        **drawn,
    )
    return rows, [f"{share:.2f}" for share in shares(columns)]


def _by_attributes(
    model: Any,
    path: Path,
    mode: str,
    options: dict[str, Any],
    words: list[str],
    number: int,
    drawn: dict[str, Any],
    target: tuple[Path, bool],
    log: bool,
) -> None:
    from .conditional_walks import describe_blocks, describe_rows, walk
    from .sample import attribute_rows

    if options["start"] == "posterior" or options["images"] is not None:
        given = "--images" if options["images"] is not None else "--start posterior"
        raise UsageError(
            f"{given}: {path} holds {type(model).__name__}, which draws by attributes; its walks start from the prior "
            "of --attributes"
        )
    step = _step(options["step"], model.num_steps) if mode == "interpolate" else None
    attributes = attribute_rows(model, words, number, drawn["seed"])
    rows, labels = walk(
        model,
        mode,
        attributes,
        step=step,
        attribute=options["attribute"],
        columns=9 if options["columns"] is None else options["columns"],
        shared_target=bool(options["shared_target"]),
        drawn=drawn,
    )
    describe_rows(attributes, model.attribute_names)
    if mode == "progressive":
        describe_blocks(model)
    _write(target, rows, labels, path, log)


def _judge(
    model: Any, logits: Callable[[Tensor], Tensor], number: int, drawn: dict[str, Any], target: tuple[Path, bool]
) -> None:
    from .conditional_walks import judge
    from .sample import attribute_rows

    blocks = model.num_steps
    print(f"Judging {number} faces after each of {blocks} blocks; fewer take less time: --num_judged", flush=True)
    file = target[0] / "emergence.json" if target[1] else target[0].with_suffix(".emergence.json")
    # Combinations as in training, whatever the rows ask for: an attribute that all have can only be seen or not.
    judge(model, logits, attribute_rows(model, [], number, drawn["seed"]), file, drawn)
    print(f"Written to {file}")


def _step(step: int | None, num_steps: int) -> int:
    if step is None:
        raise UsageError(f"--mode interpolate needs --step: which latent block moves, 1 to {num_steps} of this model")
    return step


def _first(model: Any, path: Path, options: dict[str, Any], source: dict[str, Any], batch_size: int) -> Tensor:
    """Posterior means of images; the step is looked at before data are read."""
    from lightning_zoo.generative.latent_model import posterior_means
    from lightning_zoo.generative.traversal import block_channels

    from .image_data import images_for

    block_channels(model, _step(options["step"], model.num_steps))
    return posterior_means(model, images_for(model, path, files=options["images"], **source), batch_size)


def _write(target: tuple[Path, bool], rows: Tensor, labels: list[str], path: Path, log: bool) -> None:
    from lightning_zoo.callbacks.sample_grid import image_grid

    from .pictures import with_header, write_folder, write_grid

    images = rows.flatten(0, 1)
    if target[1]:
        names = [f"row{row:03d}_column{column:02d}" for row in range(rows.shape[0]) for column in range(rows.shape[1])]
        write_folder(target[0], names, images)
        return
    print(f"Columns: {', '.join(labels)}")
    write_grid(target[0], with_header(image_grid(images, rows.shape[1]), labels, rows.shape[-1]), path, log)
