"""`lightning_zoo attributes`: whether faces show the attributes that they were drawn by, in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy

    from .attribute_report import Accuracies


def attributes(
    ckpt_path: list[str],
    *,
    classifier: str,
    split: Literal["val", "test"] = "test",
    num_images: int | None = None,
    root: str | None = None,
    published: bool = False,
    batch_size: int = 100,
    seed: int = 0,
    output: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Let an attribute classifier judge images that were drawn by the attributes of real ones, and these (Table 6.3).

    One image is drawn for each real one, by what that one shows. Accuracies are shares of right answers; "chance" is
    the accuracy of always giving the answer that was the more frequent one among the training images, which for rare
    attributes is high. The balanced accuracy, of which chance is 50, is in a table of its own.

    Args:
        ckpt_path: one or several checkpoints of methods that draw by attributes, or `last` or `best`.
        classifier: a checkpoint of an AttributeClassifier.
        split: of the dataset that the first checkpoint was trained on.
        num_images: the first so many of the split; null for all.
        root: the dataset's folder, if it is not where it was.
        published: show the thesis' values beside, those of its own classifier on CelebA.
        batch_size: images at a time.
        seed: of the latents.
        output: a JSON file for the result, a CSV file of the same name beside it; null for attributes.json and
            attributes.csv in the first checkpoint's run.
        device: where to compute.
        log: add the result to the first checkpoint's MLflow run.
    """
    from . import attribute_report as report
    from .allocator import keep_freed_memory
    from .attribute_files import write
    from .probe_report import console
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes, pick_device

    quiet()
    keep_freed_memory()
    check_numbers(seed, num_images=num_images, batch_size=batch_size)
    if not ckpt_path:
        raise UsageError("--ckpt_path: no checkpoint is given")
    if output is not None and Path(output).suffix.lower() != ".json":
        raise UsageError(f"--output {output}: give a file that ends in .json")
    paths = [find_checkpoint(path) for path in ckpt_path]
    judge = _judge(Path(classifier), pick_device(device))
    models = [_conditional(load_generative(path, device, "attributes"), path) for path in paths]
    with mistakes():
        measured = _Measurement(judge, models, paths, root).measure(split, num_images, batch_size, seed)
    beside = report.published_columns(measured, models) if published else {}
    terminal = console()
    for table in report.tables(measured, beside):
        terminal.print(table)
        terminal.print()
    caption = report.caption(measured, classifier, paths, beside)
    for line in caption:
        terminal.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    write(measured, caption, paths[0], output, log)


class _Measurement:
    """One call of `attributes`: who judges what, by which of the attributes."""

    def __init__(self, judge: Any, models: list[Any], paths: list[Path], root: str | None) -> None:
        from lightning_zoo.checkpoints import read

        from .image_data import check_judged_size, data_of

        self.judge = judge
        self.models = models
        self.paths = paths
        self.data = data_of(read(paths[0]), paths[0], {"root": root})
        self.names = [name for name in judge.attribute_names if all(name in model.attribute_names for model in models)]
        if not self.names:
            raise UsageError(
                f"--classifier: it judges {', '.join(judge.attribute_names[:3])} and so on, of which "
                f"{paths[0]} draws none: give a classifier of the attributes that are drawn by"
            )
        for model in models:
            check_judged_size(model.image_shape, judge, type(model).__name__)
        places = {name: column for column, name in enumerate(judge.attribute_names)}
        self.columns = [places[name] for name in self.names]

    def measure(self, split: Literal["val", "test"], number: int | None, batch_size: int, seed: int) -> Accuracies:
        import torch

        from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy, constant_accuracy

        from .attribute_report import Accuracies, labels_of

        real, shown, asked = self._real(split, number)
        rows = {"real": real.compute()}
        for label, model, wanted in zip(labels_of(self.models, self.paths), self.models, asked, strict=True):
            metric = AttributeAccuracy(len(self.names))
            for images, truth in zip(_drawn(model, wanted, seed, batch_size), shown.split(batch_size), strict=True):
                metric.update(self._logits(images), truth)
            rows[label] = metric.compute()
        training = self.judge.frequencies.cpu()[self.columns]
        frequencies = rows["real"].pop("frequency")
        chance = constant_accuracy(torch.tensor(frequencies), training).tolist()
        settings = {"split": split, "num_images": len(shown), "seed": seed}
        return Accuracies(self.names, frequencies, chance, rows, self.data, self.judge, self.models, settings)

    def _real(
        self, split: Literal["val", "test"], number: int | None
    ) -> tuple[AttributeAccuracy, Tensor, list[Tensor]]:
        """The judged real images, what is judged of them (N, J), and what each method is to draw (N, A)."""
        import torch

        from lightning_zoo.generative.images import images_in
        from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy

        from .image_data import batches_of, check_judged_size, own_attributes

        metric = AttributeAccuracy(len(self.names))
        parts: list[list[Tensor]] = []
        for batch in batches_of(self.data, split, number):
            if not parts:
                check_judged_size(tuple(images_in(batch).shape[1:]), self.judge, type(self.data).__name__)
            truth = own_attributes(self.judge, self.data, batch)[:, self.columns]
            metric.update(self._logits(images_in(batch)), truth)
            parts.append([truth, *(own_attributes(model, self.data, batch) for model in self.models)])
        shown, *asked = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return metric, shown, asked

    def _logits(self, images: Tensor) -> Tensor:
        """Logits (B, J) on the CPU of images of the classifier's size or a whole multiple of it."""
        import torch

        from lightning_zoo.generative.images import shrink_to

        with torch.no_grad():
            sized = shrink_to(images.to(self.judge.device), self.judge.image_shape[1])
            return self.judge.logits(sized).float().cpu()[:, self.columns]


def _drawn(model: Any, wanted: Tensor, seed: int, batch_size: int) -> Iterator[Tensor]:
    from .sample import sample_batches

    return sample_batches(model, len(wanted), seed, 1.0, batch_size, wanted)


def _judge(path: Path, place: str) -> Any:
    from lightning_zoo.checkpoints import load

    judge: Any = load(path)
    if not callable(getattr(judge, "logits", None)) or not getattr(judge, "attribute_names", None):
        raise CheckpointError(
            f"--classifier: {path} holds {type(judge).__name__}; give a checkpoint of an AttributeClassifier, which "
            "lightning_zoo fit --config attribute_classifier_celeba.yaml trains"
        )
    return judge.to(place)


def _conditional(model: Any, path: Path) -> Any:
    from lightning_zoo.generative.conditional_model import is_conditional

    if not is_conditional(model):
        raise CheckpointError(
            f"{path} holds {type(model).__name__}, which draws without attributes: attributes needs a method that "
            "draws by them, such as ACVAEGAN"
        )
    return model
