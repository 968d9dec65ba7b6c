"""How a method learns the names of the state variables when only the data know them."""

from typing import Any

import lightning as L
from torch import Tensor


def fill_from_data(module: L.LightningModule, **attributes: str) -> None:
    """Fill hyperparameters that are None from the DataModule, so that a checkpoint holds them and loads alone.

    Args:
        module: attached to a Trainer, its hyperparameters saved.
        attributes: hyperparameter to the attribute of the DataModule that answers for it.

    Raises:
        ValueError: if the run has no DataModule with that attribute; "categories" may be missing, then they are none.
    """
    for name, attribute in attributes.items():
        if module.hparams[name] is not None:
            continue
        datamodule: Any = getattr(module.trainer, "datamodule", None)
        value = getattr(datamodule, attribute, {} if attribute == "categories" else None)
        if value is None:
            raise ValueError(
                f"{name} is not set and the data ({type(datamodule).__name__}) have no `{attribute}`: "
                f"set --model.{name} or use data with labels"
            )
        module.hparams[name] = _plain(value)


def labels_of(batch: dict[str, Tensor]) -> Tensor:
    """The labels (B, K) of a batch.

    Raises:
        ValueError: if it has none.
    """
    if "labels" not in batch:
        raise ValueError(f"the batch has {', '.join(sorted(batch))} but no labels: set --data.serve labelled")
    return batch["labels"]


def _plain(value: Any) -> Any:
    # Checkpoints are read with weights_only=True, which accepts nothing but plain containers.
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
