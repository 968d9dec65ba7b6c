"""What `lightning_zoo attributes` writes: a JSON file of all results of a run, a CSV file of the last, and MLflow."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from .attribute_report import SCORES, Accuracies, mean
from .errors import UsageError


def write(measured: Accuracies, lines: list[str], checkpoint: Path, output: str | None, log: bool) -> None:
    """Add the result to the JSON file, write the CSV file anew, and hand both to the checkpoint's MLflow run.

    Raises:
        UsageError: if the place cannot be written to.
    """
    from .score_report import add_entry
    from .trained import run_folder

    target = Path(output) if output else run_folder(checkpoint) / "attributes.json"
    name = _entry_name(measured, checkpoint)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        add_entry(target, name, {"caption": lines} | as_plain(measured))
        _replace(target.with_suffix(".csv"), as_csv(measured))
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UsageError(f"--output {target} cannot be written: {error.strerror}; name another place") from error
    logged = log and _log_to_run(measured, name, checkpoint, [target, target.with_suffix(".csv")])
    print(f"Written to {target} and {target.with_suffix('.csv')}{' and to its MLflow run' * logged}")


def as_plain(measured: Accuracies) -> dict[str, Any]:
    """The result as JSON has it; null where there is no number."""
    averages = {name: {score: mean(row[score]) for score in SCORES} for name, row in measured.rows.items()}
    averages["chance"] = {"accuracy": mean(measured.chance), "balanced_accuracy": 0.5}
    per_attribute = {
        attribute: {"share": measured.frequencies[place], "chance": measured.chance[place]}
        | {name: {score: row[score][place] for score in SCORES} for name, row in measured.rows.items()}
        for place, attribute in enumerate(measured.names)
    }
    return _without_nan({**measured.settings, "average": averages, "per_attribute": per_attribute})


def as_csv(measured: Accuracies) -> str:
    """A line per attribute and one of averages; empty where there is no number."""
    columns: dict[str, Sequence[float]] = {"share": measured.frequencies, "chance": measured.chance}
    columns |= {f"{name} {score}": row[score] for name, row in measured.rows.items() for score in SCORES}
    made = io.StringIO()
    lines = csv.writer(made, lineterminator="\n")
    lines.writerow(["attribute", *(name.replace("_", " ") for name in columns)])
    for place, attribute in enumerate(measured.names):
        lines.writerow([attribute, *("" if isnan(v[place]) else round(v[place], 6) for v in columns.values())])
    means = ["" if name == "share" or isnan(mean(v)) else round(mean(v), 6) for name, v in columns.items()]
    lines.writerow(["average", *means])
    return made.getvalue()


def _entry_name(measured: Accuracies, checkpoint: Path) -> str:
    from lightning_zoo.metrics.feature_extractors import EncoderExtractor

    settings, others = measured.settings, list(measured.rows)[2:]
    parts = [
        checkpoint.stem,
        settings["split"],
        str(settings["num_images"]),
        EncoderExtractor(measured.judge).identity[:6],
    ]
    parts += [f"with_{'_'.join(others).replace(' ', '_')}"] * bool(others)
    parts += [f"seed{settings['seed']}"] * (settings["seed"] != 0)
    return "_".join(parts)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and isnan(value) else value


def _replace(target: Path, text: str) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    temporary.write_text(text)
    os.replace(temporary, target)


def _log_to_run(measured: Accuracies, name: str, checkpoint: Path, written: list[Path]) -> bool:
    from .trained import run_folder

    noted = run_folder(checkpoint) / "mlflow_run_id"
    if not noted.is_file():
        return False
    from lightning_zoo.callbacks.mlflow_store import log_to_run

    values = {
        f"attributes/{name}/{label}/{score}": mean(row[score])
        for label, row in measured.rows.items()
        for score in SCORES
    }
    known = {key: value for key, value in values.items() if not isnan(value)}
    return log_to_run(noted.read_text().strip(), known, written)
