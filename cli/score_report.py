"""What `lightning_zoo score` prints and writes: the table, the lines that say how it was measured, the file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from lightning_zoo.metrics.feature_extractors import Extractor
    from lightning_zoo.metrics.image_quality import Quality


def table(title: str, rows: Mapping[str, Quality]) -> Table:
    """One line per metric: value, standard deviation, and from how many images it is."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title)
    made.add_column("metric")
    for name in ("value", "+-", "real", "generated"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        counts = [row.num_real, row.num_generated]
        if name.endswith("of_real_images"):
            counts.reverse()
        spread = "-" if row.deviation is None else f"{row.deviation:.4g}"
        made.add_row(name.replace("_", " "), f"{row.value:.5g}", spread, *(str(n) if n else "-" for n in counts))
    return made


def caption(
    model: Any, path: Path, data: Any, network: Extractor, features: Tensor, settings: Mapping[str, Any]
) -> list[str]:
    """How the scores were measured.

    Args:
        model: what was scored.
        path: its checkpoint.
        data: where the real images are from.
        network: the extractor.
        features: (N, F) of the real images.
        settings: "num_images", "split", "truncation" and "seed"; whether the real images were "averaged_down" to the
            size of the drawn ones, and whether these were drawn by attributes, "conditional".
    """
    number, (num_real, num_features) = settings["num_images"], features.shape
    few = f", and much more so with no more than {num_features}" * (min(num_real, number) <= num_features)
    real = _size(data) + f" averaged down to {_size(model)}" * settings.get("averaged_down", False)
    lines = [
        f"generated: {number} of {type(model).__name__} from {path}, {_size(model)}, truncation "
        f"{settings['truncation']:g}, seed {settings['seed']}",
        f"real: {num_real} of {type(data).__name__} {settings['split']}, {real}, crop: {crop_of(data)}, "
        f"fingerprint {fingerprint_hash(data)}",
        f"extractor: {network.description}, {num_features} features, identity {network.identity}",
        f"Few images make the Frechet distance too large{few}: compare at equal numbers.",
    ]
    if settings.get("conditional"):
        often = f", {number / num_real:.3g} times each" if number > num_real else ""
        shown = f"the first {min(number, num_real)} images of {type(data).__name__} {settings['split']}"
        lines.insert(1, f"attributes: those of {shown}{often}")
    if getattr(data, "binarization", None) == "static":
        lines.append(
            "note: the real images are black and white (binarization: static), the generated ones grey probabilities; "
            "that difference is in every distance, so compare only with scores measured in the same way."
        )
    return lines


def crop_of(data: Any) -> str:
    """A dataset's crop protocol in words."""
    return str(getattr(data, "crop", "none") or "none")


def fingerprint_hash(data: Any) -> str:
    """Twelve digits that stand for a dataset's fingerprint."""
    text = json.dumps(dict(getattr(data, "fingerprint", {})), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def add_entry(target: Path, name: str, entry: dict[str, Any]) -> None:
    """Put `entry` beside what a JSON file holds under other names; a file that cannot be read is begun anew."""
    try:
        known = json.loads(target.read_text())
    except (OSError, ValueError):
        known = {}
    content = (known if isinstance(known, dict) else {}) | {name: entry}
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, target)


def _size(owner: Any) -> str:
    return "x".join(map(str, owner.image_shape))
