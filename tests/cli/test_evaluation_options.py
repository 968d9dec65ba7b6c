"""Options of an evaluation: what is typed wins, everything else is the checkpoint's."""

import lightning as L
import pytest

from lightning_zoo import VAE
from lightning_zoo.checkpoints import CheckpointError, load
from lightning_zoo.cli import zoo
from lightning_zoo.cli.main import main

WORDS = ("test", "--config", "vae_mnist", "--ckpt_path", "vae.ckpt", "--trainer.logger=false")


def test_what_is_typed_wins_over_the_checkpoint(tmp_path, mnist_files, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(VAE(base_channels=2, latent_channels=8, num_draws=7, num_test_images=4))
    trainer.save_checkpoint("vae.ckpt")
    seen = []
    monkeypatch.setattr(zoo.ZooCLI, "_run_subcommand", lambda cli, subcommand: seen.append(dict(cli.model.hparams)))
    words = [
        "test",
        "--config",
        "vae_mnist",
        "--ckpt_path",
        "vae.ckpt",
        f"--data.root={mnist_files(tmp_path / 'mnist')}",
    ]
    main([*words, "--model.num_draws", "3"])
    main([*words, "--model.num_draws=5", "--model.base_channels=2"])
    main(words)
    assert [given["num_draws"] for given in seen] == [3, 5, 7]
    assert {given["num_test_images"] for given in seen} == {4}
    assert {given["base_channels"] for given in seen} == {2}


def test_another_network_than_the_checkpoints_is_one_line(tmp_path, mnist_files, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(VAE(base_channels=2, latent_channels=8))
    trainer.save_checkpoint("vae.ckpt")
    root = mnist_files(tmp_path / "mnist")
    with pytest.raises(SystemExit) as ended:
        main(
            [*WORDS, f"--data.root={root}", "--model.base_channels=4", "--data.num_val=8", "--trainer.accelerator=cpu"]
        )
    assert ended.value.code == 2
    assert "--ckpt_path does not fit the model of this config" in capsys.readouterr().err


def test_a_folder_is_answered_with_its_checkpoint(tmp_path):
    last = tmp_path / "runs/vae/version_0/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    with pytest.raises(CheckpointError, match=f"runs is a folder. Did you mean {last}"):
        load(tmp_path / "runs")


@pytest.mark.parametrize(
    ("lightnings", "option"),
    [
        ("Automatic gradient clipping is not supported for manual optimization.", "gradient_clip_val"),
        ("Automatic gradient accumulation is not supported for manual optimization.", "accumulate_grad_batches"),
    ],
)
def test_what_manual_optimization_cannot_do(lightnings, option):
    assert zoo._in_our_words(lightnings).endswith(f"by itself; leave out --trainer.{option}.")
    assert zoo._in_our_words("else") == "else"


def test_results_go_to_the_checkpoints_run(tmp_path, mnist_files, monkeypatch, capsys):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    small = [f"--data.root={mnist_files(tmp_path / 'mnist')}", "--data.num_val=8", "--data.batch_size=4"]
    main(
        [
            *("fit", "--config", "vae_mnist", *small, "--model.base_channels=2", "--trainer.max_epochs=1"),
            *("--trainer.limit_train_batches=1", "--trainer.accelerator=cpu", "--trainer.callbacks=LastCheckpoint"),
        ]
    )
    main(["test", "--config", "vae_mnist", "--ckpt_path", "last", *small, "--model.num_draws=2"])
    assert "Results:    runs/vae_mnist/test_0 and the MLflow run of the checkpoint" in capsys.readouterr().out
    run = (tmp_path / "runs/vae_mnist/version_0/mlflow_run_id").read_text().strip()
    metrics = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(run).data.metrics
    assert metrics["test/nll"] > 0
