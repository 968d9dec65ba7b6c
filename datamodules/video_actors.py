"""Splits by actor: who is seen in training is never seen in testing."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import DataError


class ActorSplit(NamedTuple):
    """Which actors each split is to hold; disjoint."""

    train: list[str]
    val: list[str]
    test: list[str]


def choose_actors(
    actors: Sequence[str] | None,
    test_actors: Sequence[str] | None,
    val_actors: Sequence[str] | None,
    fold: int | None,
    folds: Sequence[Sequence[str]],
) -> ActorSplit:
    """The actors of each split.

    Args:
        actors: those that take part; None for all that are in a fold.
        test_actors: None for those of the fold.
        val_actors: None for those of the fold before; none at all to validate on the test actors.
        fold: number of the fold that is tested; None for the first that has actors who take part.
        folds: the actors, cut into parts.

    Raises:
        ValueError: for an actor that does not exist or is in two splits, a fold that does not exist, or no actor left.
    """
    known = [actor for part in folds for actor in part]
    for argument, given in (("actors", actors), ("test_actors", test_actors), ("val_actors", val_actors)):
        unknown = [actor for actor in given or [] if actor not in known]
        if unknown:
            raise ValueError(f"{argument} must be among {', '.join(sorted(known))}, got {unknown[0]}")
    if fold is not None and not 0 <= fold < len(folds):
        raise ValueError(f"fold must be 0 to {len(folds) - 1}, got {fold}")
    if fold is not None and test_actors is not None:
        raise ValueError(f"fold={fold} and test_actors={list(test_actors)} both say who is tested: give one of them")
    present = [part for part in ([actor for actor in part if actor in (actors or known)] for part in folds) if part]
    place = next((i for i, part in enumerate(present) if fold is not None and set(part) & set(folds[fold])), None)
    if fold is not None and place is None:
        raise ValueError(f"fold={fold} holds none of the actors {list(actors or [])}")
    test = list(test_actors) if test_actors is not None else present[place or 0]
    val = list(val_actors) if val_actors is not None else _before(present, test)
    train = [actor for part in present for actor in part if actor not in {*test, *val}]
    both = sorted(set(test) & set(val))
    if both:
        raise ValueError(f"val_actors and test_actors must be disjoint, both hold {both[0]}")
    for argument, given in (("test_actors", test), ("val_actors", val)):
        absent = [actor for actor in given if actor not in (actors or known)]
        if absent:
            raise ValueError(f"{argument} holds {absent[0]}, who is not among actors={list(actors or [])}")
    if not train or not test:
        raise ValueError(f"test_actors={test} and val_actors={val} leave nobody to {'train on' if test else 'test on'}")
    return ActorSplit(train, val, test)


def assign_splits(
    name: str, root: Path, actors: ActorSplit, present: Sequence[str]
) -> tuple[dict[str, str], dict[str, int]]:
    """The split of each actor who takes part, and how many videos of others are left out.

    Args:
        name: of the dataset.
        root: its folder, for the message.
        actors: who takes part.
        present: the actor of every video that is there.

    Raises:
        DataError: for an actor without a video.
    """
    split_of = {actor: split for split, members in actors._asdict().items() for actor in members}
    without = [actor for actor in split_of if actor not in set(present)]
    if without:
        others = f", nor have {len(without) - 1} others" if len(without) > 1 else ""
        raise DataError(
            f"{name}: actor {without[0]} has no video in {root}{others}: obtain them, or name the actors you have with "
            "--data.actors"
        )
    return split_of, {"videos of other actors left out": sum(actor not in split_of for actor in present)}


def _before(parts: Sequence[Sequence[str]], test: Sequence[str]) -> list[str]:
    """The part before the first that is tested, around the ring, without any that is tested."""
    if len(parts) < 3:
        return []
    first = next((place for place, part in enumerate(parts) if set(part) & set(test)), 0)
    return [actor for actor in parts[first - 1] if actor not in test]
