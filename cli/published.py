"""The published score of a method on a game, where there is one that compares."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lightning_zoo import METHODS

if TYPE_CHECKING:
    from datamodules.atari_frames import AtariFrames

WITHOUT_EFFECT = frozenset({"variables", "categories", "vectorize"})
"""Options that come from the data, or change how a result is computed and not which."""

UNTRAINED = frozenset({"random_cnn", "majority"})
"""Methods that know nothing of the game that a checkpoint was trained on."""


@dataclass(frozen=True)
class Published:
    """What the literature has for one method on one game.

    Attributes:
        f1: mean over categories of weighted F1.
        accuracy: mean over categories of accuracy.
        f1_per_category: by category.
        f1_per_variable: by variable, those of the published table.
        note: where the numbers are from if not from the method's paper, or why there are none; may be empty.
    """

    f1: float | None = None
    accuracy: float | None = None
    f1_per_category: Mapping[str, float] = field(default_factory=dict)
    f1_per_variable: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@cache
def published_scores() -> dict[str, Any]:
    """All published scores; see "about" in the file."""
    return json.loads(files("lightning_zoo.representation").joinpath("published_atari.json").read_text())


def published_for(module: Any, data: AtariFrames, trained_game: str | None) -> Published:
    """The published scores that compare with a module probed on a game, or why there are none.

    Args:
        module: the probed encoder or classifier; only methods of this package with published options have scores.
        data: the game, the agent and the label map of the probes.
        trained_game: what the module was trained on; None if unknown.

    Returns:
        With options of the ablation study's Table 2, its value of the game. Values of single categories are means over
        the variables of the published table, which has them for a random agent only.
    """
    name = type(module).__name__
    stem = method_stem(module)
    if stem is None or not _is_published(stem):
        return Published(note=f"{name}: nothing published")
    if reason := _other_task(stem, data, trained_game):
        return Published(note=f"{name}: no published value, {reason}")
    changes = changed_options(module)
    random_agent = data.settings.policy == "random"
    if not changes:
        return _of_random_agent(stem, data.game) if random_agent else _of_ppo_agent(stem, data.game)
    study = _study_strides(changes, data.game) if stem == "stdim" and random_agent else None
    if study is not None:
        return Published(f1=study, note=f"{name}: published is the ablation study's value for these strides")
    changed = ", ".join(f"{option} {value}" for option, value in changes.items())
    return Published(note=f"{name}: no published value with {changed}")


def method_stem(module: Any) -> str | None:
    """The name of a method of this package, as "stdim"; None for any other class, also one derived from a method."""
    cls = type(module)
    return cls.__module__.rpartition(".")[2] if METHODS.get(cls.__name__) == cls.__module__ else None


def changed_options(module: Any) -> dict[str, Any]:
    """The options of a method that are not the published defaults."""
    parameters = inspect.signature(type(module).__init__).parameters
    given = {name: module.hparams[name] for name in parameters if name in module.hparams}
    return {
        name: value
        for name, value in given.items()
        if name not in WITHOUT_EFFECT and _plain(value) != _plain(parameters[name].default)
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_published(stem: str) -> bool:
    return stem in published_scores()["random"]["f1_per_game"]["mean"]


def _other_task(stem: str, data: AtariFrames, trained_game: str | None) -> str:
    game, label_map = data.game, data.protocol.label_map
    if not _counts_what_the_paper_counts(data):
        return f"label map {label_map!r} has other variables of {game}"
    if stem not in UNTRAINED and trained_game is not None and trained_game != game:
        return f"it was trained on {trained_game}"
    return ""


def _counts_what_the_paper_counts(data: AtariFrames) -> bool:
    """Whether the means are over the bytes of the published ones; names differ, and so may bytes that never vary."""
    from datamodules.atari_games import state_variables

    paper = {(variable.address, variable.categories) for variable in state_variables(data.game, "paper")}
    own = state_variables(data.game, data.protocol.label_map)
    annotated = {(variable.address, variable.categories) for variable in own}
    counted = {(v.address, v.categories) for v in own if v.name in data.variables and v.categories}
    return paper <= annotated and counted <= paper


def _of_random_agent(stem: str, game: str) -> Published:
    from datamodules.atari_games import state_variables
    from lightning_zoo.metrics.variable_scores import category_means

    scores = published_scores()["random"]
    per_variable = {name: values[stem] for name, values in scores["f1_per_variable"][game].items() if stem in values}
    categories = {variable.name: variable.categories for variable in state_variables(game, "paper")}
    study = published_scores()["study"]["f1_per_game"][game].get(stem)
    return Published(
        f1=scores["f1_per_game"][game].get(stem),
        accuracy=scores["accuracy_per_game"][game].get(stem),
        f1_per_category=category_means(per_variable, categories),
        f1_per_variable=per_variable,
        note="" if study is None else f"ST-DIM in the ablation study's own run: {study:.2f}",
    )


def _of_ppo_agent(stem: str, game: str) -> Published:
    f1 = published_scores()["ppo"]["f1_per_game"][game].get(stem)
    return Published(f1=f1, note="" if f1 is None else "published is for the frames of the paper's own PPO agent")


def _study_strides(changes: dict[str, Any], game: str) -> float | None:
    strides = published_scores()["study"]["strides"]
    for place, column in enumerate(strides["columns"]):
        if changes in (column["options"], {"strides": column["options"]["strides"]}):
            return strides["f1_per_game"].get(game, [None] * (place + 1))[place]
    return None
