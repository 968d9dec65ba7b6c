"""fit, validate, test and predict: LightningCLI with short class names, packaged configs and run folders."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from datamodules import DATASETS
from lightning_zoo import METHODS
from lightning_zoo.callbacks.loss_bar import LossBar
from lightning_zoo.callbacks.mlflow_store import RUN_ID_FILE, MLflowStore, log_to_run
from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.callbacks.run_record import RunRecord
from lightning_zoo.checkpoints import CheckpointError, read

from .allocator import keep_freed_memory
from .errors import UsageError, mistake_in
from .explain import explain
from .find_config import DEFAULTS
from .main import TRAINER_COMMANDS
from .parser import PackagedConfigFile
from .quiet import quiet
from .runs import Run, discard_empty, reserve, run_name, settle
from .vocabulary import explain_words


class ZooParser(LightningArgumentParser):
    """LightningCLI's parser; an error is raised as it is and explained by `ZooCLI`, which knows the right names."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `UsageError`."""
        raise UsageError(message) from ex


class ZooCLI(LightningCLI):
    """LightningCLI over all methods and datasets.

    Args:
        args: The words after `lightning_zoo`; None takes those of the process.
        run: Run the command; False only parses (no command in `args` then) and builds the classes.
    """

    def __init__(self, args: list[str] | None = None, run: bool = True) -> None:
        for module in dict.fromkeys((*METHODS.values(), *DATASETS.values())):
            import_module(module)
        self.words = sys.argv[1:] if args is None else args
        self.parsers: list[LightningArgumentParser] = []
        self.place: Run | None = None
        settings: dict[str, Any] = {"default_config_files": [str(DEFAULTS)]}
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            parser_class=ZooParser,
            parser_kwargs={"allow_abbrev": False}
            | ({command: dict(settings) for command in TRAINER_COMMANDS} if run else settings),
            save_config_callback=RunRecord,
            save_config_kwargs={"command": ["lightning_zoo", *self.words]},
            seed_everything_default=0,
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose `--config` also finds the packaged files."""
        parser = self.parser_class(**kwargs)
        text = "A config file, here or among the packaged ones (`lightning_zoo list`); several overlay in order."
        parser.add_argument("-c", "--config", action=PackagedConfigFile, help=text)
        self.parsers.append(parser)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--name`."""
        text = "The run's folder below runs/; null for the names of the configs, with the game that is played."
        parser.add_argument("--name", type=str | None, default=None, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a mistake becomes one line that names the nearest right word."""
        try:
            self.config = parser.parse_args(self.words)
        except UsageError as error:
            options = {
                key for parser in self.parsers for key in dict(parser.get_defaults(skip_validation=True).items())
            }
            raise UsageError(explain_words(str(error), self.words, options)) from error

    def _parse_ckpt_path(self) -> None:
        # Lightning lets the checkpoint's hyperparameters win over the command line. That is right for an evaluation,
        # whose weights fit no others, and wrong for a run that goes on with a changed setting.
        if "subcommand" not in self.config:
            return
        config = self.config[self.config.subcommand]
        config_files = [Path(str(file)) for file in config.get("config") or [] if file is not None]
        model = _class_at(config.model.class_path)
        data = dict(config.data.get("init_args") or {})
        name = config.name or run_name(config_files, model.__name__, data.get("game"))
        self.place = settle(self.config.subcommand, name, config.ckpt_path, model, data)
        if self.config.subcommand != "fit":
            config.ckpt_path = self.place.ckpt_path
            self._take_hyperparameters(config)

    def _take_hyperparameters(self, config: Any) -> None:
        # What is typed for this evaluation, such as its number of draws, wins over what the run was given.
        if config.ckpt_path is None:
            return
        known = read(config.ckpt_path).get("hyper_parameters", {})
        typed = {word.removeprefix("--model.").partition("=")[0] for word in self.words if word.startswith("--model.")}
        for name in dict(config.model.get("init_args") or {}):
            if name in known and name not in typed:
                config.model.init_args[name] = known[name]

    def before_instantiate_classes(self) -> None:
        """Leave MLflow to `fit`."""
        if self.subcommand in (None, "fit"):
            return
        trainer = self.config[self.subcommand].trainer
        if isinstance(trainer.logger, list):
            trainer.logger = [entry for entry in trainer.logger if _class_at(entry.class_path) is not MLflowStore]

    def instantiate_classes(self) -> None:
        """Build the classes; what they refuse is the user's mistake."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise UsageError(explain(str(error))) from error
        except RuntimeError as error:
            if "more than one stateful callback" not in str(error):
                raise
            raise UsageError(f"trainer.callbacks: {str(error).partition('.')[0]}: give it once.") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer and settle its run's folder."""
        trainer = super().instantiate_trainer(**kwargs)
        cores = os.cpu_count() or 1
        if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
            # Lightning would start them all, and the machine would stand still.
            raise UsageError(
                f"trainer.devices: {trainer.num_devices} processes on {cores} CPU cores and no GPU; "
                f"set --trainer.devices {cores} or less."
            )
        if self.place and any(isinstance(logger, RunFolder) for logger in trainer.loggers):
            if trainer.is_global_zero:
                self.place = reserve(self.place)
            for logger in trainer.loggers:
                if isinstance(logger, RunFolder):
                    logger.place(self.place.name, self.place.folder.name, self.place.step)
                elif isinstance(logger, MLflowStore):
                    logger.place(self.place.name, self.place.folder, resume=self.place.step is not None)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> L.Trainer:
        # A bar among the callbacks of a config would forbid --trainer.enable_progress_bar false.
        given = config.get("callbacks") or []
        own = any(isinstance(entry, ProgressBar) for entry in (given if isinstance(given, list) else [given]))
        wanted = config.get("enable_progress_bar") is not False and not config.get("barebones")
        return super()._instantiate_trainer(config, [*callbacks, LossBar()] if wanted and not own else callbacks)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        assert self.place is not None
        # The config keeps the word `last`; only the trainer gets the file.
        path: dict[str, Any] = {"ckpt_path": self.place.ckpt_path, "weights_only": True}
        if subcommand == "predict":
            path["return_predictions"] = False  # PredictionFile has them; Lightning would keep all on the device
        return super()._prepare_subcommand_kwargs(subcommand) | path

    def before_fit(self) -> None:
        """Say where a resumed run goes on."""
        assert self.place is not None
        if self.place.step is not None and self.trainer.is_global_zero:
            print(f"Resuming {self.place.folder} from {self.place.ckpt_path} (step {self.place.step}).")

    def _run_subcommand(self, subcommand: str) -> None:
        assert self.place is not None
        try:
            super()._run_subcommand(subcommand)
        except SIGTERMException as error:
            # Lightning ends such a run in order, and would report success to a scheduler.
            print("Terminated; the same command with --ckpt_path last goes on.", file=sys.stderr)
            raise SystemExit(143) from error
        except BaseException:
            self._discard_empty()
            raise
        finally:
            # An evaluation that logged nothing leaves no folder.
            if self.trainer.is_global_zero:
                with suppress(OSError):
                    self.place.folder.rmdir()

    @rank_zero_only
    def _discard_empty(self) -> None:
        in_folder = any(isinstance(logger, RunFolder) for logger in self.trainer.loggers)
        if self.place and in_folder and discard_empty(self.place):
            for logger in self.trainer.loggers:
                if isinstance(logger, MLflowStore):
                    logger.discard()

    @rank_zero_only
    def after_fit(self) -> None:
        """Say where the run and its checkpoints are and which command comes next."""
        assert self.place is not None
        tracked = [f" (MLflow: {log.tracking_uri})" for log in self.trainer.loggers if isinstance(log, MLflowStore)]
        if any(isinstance(logger, RunFolder) for logger in self.trainer.loggers):
            print(f"Run:        {self.place.folder}{''.join(tracked)}")
        saved = [file for file in self.trainer.checkpoint_callbacks if isinstance(file, ModelCheckpoint)]
        saved = [file for file in saved if file.best_model_path]
        for file in saved:
            kind = f"best {file.monitor}: {file.best_model_score:.4f}" if file.monitor else "last"
            print(f"Checkpoint: {os.path.relpath(file.best_model_path)} ({kind})")
        # The published protocols measure the last weights.
        command = next_command(self.model)
        if saved and command:
            print(f"Next:       lightning_zoo {command} --ckpt_path {os.path.relpath(saved[-1].best_model_path)}")

    @rank_zero_only
    def after_test(self) -> None:
        """Add the results to the checkpoint's run in MLflow, and say where they are."""
        assert self.place is not None
        checkpoint = self.place.ckpt_path
        noted = Path(checkpoint).parents[1] / RUN_ID_FILE if checkpoint else None
        values = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        known = noted is not None and noted.is_file() and log_to_run(noted.read_text().strip(), values)
        if any(isinstance(logger, RunFolder) for logger in self.trainer.loggers):
            print(f"Results:    {self.place.folder}{' and the MLflow run of the checkpoint' if known else ''}")


def next_command(model: Any) -> str | None:
    """What to do with a trained method: look at samples, retrieve clips, or else probe; None for a judge of images."""
    if callable(getattr(model, "sample", None)):
        return "sample"
    if hasattr(model, "frame_shape"):
        return "retrieve" if callable(getattr(model, "features", None)) else None
    return "probe" if callable(getattr(model, "encode", None)) and not hasattr(model, "logits") else None


def run(words: list[str]) -> None:
    """Run fit, validate, test or predict with the words of the command line, the command first.

    Raises:
        UsageError: For a mistake in the words, in a config, in what a class was given, or in how method and data are
            put together.
        CheckpointError: For a checkpoint that cannot be used.
        KeyboardInterrupt: After Ctrl-C, once the run has ended in order.
    """
    quiet()
    keep_freed_memory()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        ZooCLI(words)
    except MisconfigurationException as error:
        raise UsageError(_in_our_words(str(error))) from error
    except (ValueError, KeyError) as error:
        message = mistake_in(error)
        if message is None:
            raise
        raise UsageError(message) from error
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        raise CheckpointError(f"--ckpt_path does not fit the model of this config: {str(error)[:300]}") from error
    except SystemExit as error:
        # Lightning ends a run in order after Ctrl-C and then exits with 1.
        if isinstance(error.__context__, KeyboardInterrupt):
            print("Interrupted; the same command with `--ckpt_path last` goes on.", file=sys.stderr)
            raise KeyboardInterrupt from error
        raise


def _class_at(path: str) -> type:
    module, _, name = path.rpartition(".")
    cls: type = getattr(import_module(module), name)
    return cls


def _in_our_words(message: str) -> str:
    """What Lightning says of a misconfiguration, or what it means here."""
    if "`test_step()`" in message:
        return "This method has no test of its own: lightning_zoo probe --ckpt_path ..."
    if "not supported for manual optimization" in message:
        option = "gradient_clip_val" if "clipping" in message else "accumulate_grad_batches"
        return f"trainer.{option}: this method steps several optimizers by itself; leave out --trainer.{option}."
    return message
