"""`lightning_zoo probe`: the linear-probe table of a checkpoint, beside the published one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .allocator import keep_freed_memory
from .errors import UsageError

if TYPE_CHECKING:
    from datamodules.atari_frames import AtariFrames

    from .probing import ProbeScores

EPOCHS = 100


def probe(
    ckpt_path: str,
    *,
    game: str | None = None,
    root: str | None = None,
    preset: Literal["clean", "paper"] | None = None,
    label_map: Literal["paper", "head"] | None = None,
    num_probe_frames: int | None = None,
    sampling: Literal["episode", "frame"] | None = None,
    test_sampling: Literal["with_replacement", "once"] | None = None,
    test_weights: Literal["last", "best"] | None = None,
    baselines: bool = False,
    per_variable: bool = False,
    max_epochs: int = EPOCHS,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Measure with linear probes what an encoder knows of a game's state.

    Labelled frames are collected if they are missing. What the checkpoint was trained on is the default of every
    option. A checkpoint that learned labels is scored itself, on the held-out part of its own frames.

    Args:
        ckpt_path: a checkpoint of any module with `encode`, or `last` or `best` for the newest run's.
        game: the game to probe.
        root: folder of the recordings.
        preset: protocol of labels, splits, sampling and scored weights.
        label_map: annotations of the RAM.
        num_probe_frames: labelled frames, of which 70 % train the probes.
        sampling: probes train on an "episode", then one of its frames, with replacement (preset paper), or on each
            "frame" once an epoch (clean).
        test_sampling: test frames are drawn "with_replacement" (paper) or each is seen "once" (clean).
        test_weights: score each probe's "last" weights (paper) or its "best" by validation accuracy (clean).
        baselines: add an untrained encoder and the most frequent label.
        per_variable: add a table of single variables.
        max_epochs: of the probes, at most.
        seed: of the probes.
        device: where to compute.
        log: write the scores beside the checkpoint and to its MLflow run.
    """
    from .quiet import quiet
    from .trained import find_checkpoint, mistakes, pick_device

    quiet()
    keep_freed_memory()
    if max_epochs < 1:
        raise UsageError(f"--max_epochs must be at least 1, got {max_epochs}")
    if seed < 0:
        raise UsageError(f"--seed must not be negative, got {seed}")
    options = {
        "game": game,
        "root": root,
        "preset": preset,
        "label_map": label_map,
        "num_probe_frames": num_probe_frames,
        "sampling": sampling,
        "test_sampling": test_sampling,
    }
    settings = {"max_epochs": max_epochs, "seed": seed, "device": pick_device(device), "test_weights": test_weights}
    path = find_checkpoint(ckpt_path)
    if ckpt_path in ("last", "best"):
        print(f"Probing {path}")
    with mistakes():
        result = _Result(path, options, settings)
        result.measure(baselines)
    result.show(per_variable)
    if log:
        result.log()


class _Result:
    """One call of `probe`: what is probed, on what, and what came out."""

    def __init__(self, path: Path, options: dict[str, Any], settings: dict[str, Any]) -> None:
        from lightning_zoo.checkpoints import load_encoder, read

        from .probe_data import check_held_out, collect, is_classifier, labelled_frames, trained_on

        self.path = path
        self.settings = settings
        self.module = load_encoder(path)
        self.checkpoint = read(path)
        self.trained_on = trained_on(self.checkpoint, path, options)
        self.data = labelled_frames(self.trained_on, options)
        if is_classifier(self.module):
            check_held_out(self.module, self.trained_on, self.data, options)
        collect(self.data)

    def measure(self, baselines: bool) -> None:
        from .published import published_for

        modules = [self.module]
        if baselines:
            modules += [m for m in _baselines(self.data, self.settings["seed"]) if type(m) is not type(self.module)]
        self.scores = [_score(module, self.data, **self.settings) for module in modules]
        game = self._trained("game")
        # A baseline was made for the game that is probed.
        trained_games = [game] + [self.data.game] * (len(modules) - 1)
        self.published = [
            published_for(module, self.data, trained) for module, trained in zip(modules, trained_games, strict=True)
        ]

    def show(self, per_variable: bool) -> None:
        from .probe_report import caption, category_table, console, summary, variable_table

        self.caption = caption(self.module, self.checkpoint, self.data, self.scores, self.published)
        terminal = console()
        terminal.print(category_table(self.scores, self.published))
        terminal.print()
        if per_variable:
            terminal.print(variable_table(self.scores[0], self.published[0], self.data))
            terminal.print()
        for line in self.caption:
            terminal.print(line, style="dim", highlight=False, markup=False)
        terminal.print(summary(self.scores[0], self.published[0]), highlight=False, markup=False)

    def log(self) -> None:
        checkpoints = self.path.parent.name == "checkpoints"
        folder = self.path.parent.parent if checkpoints else self.path.parent
        names = [self.data.game, self.data.hparams["preset"], *self._unusual()]
        target = folder / f"probe_{'_'.join([self.path.stem, *names])}.json"
        content = {"checkpoint": self.path.name, "caption": self.caption, "scores": [asdict(s) for s in self.scores]}
        content["published"] = [asdict(published) for published in self.published]
        temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, target)
        noted = folder / "mlflow_run_id"
        logged = noted.is_file() and self._log_to_run(noted.read_text().strip(), target)
        print(f"Written to {target}{' and to its MLflow run' * logged}")

    def _log_to_run(self, run_id: str, target: Path) -> bool:
        from lightning_zoo.callbacks.mlflow_store import log_to_run

        names = ["best"] * self.path.stem.startswith("best")
        names += [self.data.game] * (self.data.game != self._trained("game"))
        names += [self.data.hparams["preset"]] * (self.data.hparams["preset"] != self._trained("preset"))
        prefix = "/".join(["probe", *filter(None, ["_".join([*names, *self._unusual()])])])
        return log_to_run(run_id, self.scores[0].metrics(prefix), [target])

    def _unusual(self) -> list[str]:
        """Short names of what was not measured as usual, by which results are told apart."""
        from datamodules.atari_protocol import PRESETS

        from .probe_data import is_classifier
        from .probing import weights_of_preset

        usual, own = PRESETS[self.data.hparams["preset"]], self.data.protocol
        frames, weights = self.data.settings.num_frames, self.settings["test_weights"] or weights_of_preset(self.data)
        seed, epochs = self.settings["seed"], self.settings["max_epochs"]
        probed = not is_classifier(self.module)
        names = {
            own.label_map: own.label_map != usual.label_map,
            f"frames{frames}": frames != self._trained("num_probe_frames"),
            f"sampling-{own.sampling}": probed and own.sampling != usual.sampling,
            f"test-{own.test_sampling}": own.test_sampling != usual.test_sampling,
            f"weights-{weights}": probed and weights != weights_of_preset(self.data),
            f"seed{seed}": probed and seed != 0,
            f"epochs{epochs}": probed and epochs != EPOCHS,
        }
        return [name for name, unusual in names.items() if unusual]

    def _trained(self, argument: str) -> Any:
        """An argument of the data that the checkpoint was trained on; what is probed where that is unknown."""
        from datamodules.atari_games import resolve_game

        value = self.trained_on.get(argument, self.data.hparams[argument])
        return resolve_game(value) if argument == "game" else value


def _score(module: Any, data: AtariFrames, *, device: str, **settings: Any) -> ProbeScores:
    from .probe_data import is_classifier
    from .probing import probe_encoder, score_classifier

    if is_classifier(module):
        name = type(module).__name__
        if list(module.hparams["variables"]) != data.variables:
            raise CheckpointError(
                f"{name} was trained for {', '.join(module.hparams['variables'])}; the data have "
                f"{', '.join(data.variables)}: collect the frames that it was trained on anew, or train it anew"
            )
        predict: Callable[..., Any] = module.to(device).eval().predict
        return score_classifier(predict, data, name=name, device=device)
    return probe_encoder(module, data, device=device, progress=sys.stdout.isatty(), **settings)


def _baselines(data: AtariFrames, seed: int) -> list[Any]:
    import lightning as L
    import torch

    from lightning_zoo.representation.majority import Majority
    from lightning_zoo.representation.random_cnn import RandomCNN

    L.seed_everything(seed, verbose=False)
    random_cnn = RandomCNN(input_channels=data.image_shape[0])
    majority = Majority(variables=data.variables, categories=data.categories)
    majority.count(torch.from_numpy(data.labelled["train"].labels))
    return [random_cnn, majority]
