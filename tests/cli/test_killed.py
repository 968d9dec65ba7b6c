"""`fit` killed with SIGKILL, at any moment, and taken up again ends in the very weights of a run that was not."""

import os
import random
import signal
import time

import pytest
import torch

from lightning_zoo.checkpoints import read

TRACKED = ("fit", "--config", "toy_pong.yaml", "--trainer.max_epochs", "6")
FIT = (*TRACKED, "--trainer.logger.class_path", "RunFolder")


def finish(process):
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return output


def weights(folder):
    return read(folder / "checkpoints/last.ckpt")["state_dict"]


def kill_when(process, ready, then_wait=0.0, deadline=60.0):
    start = time.monotonic()
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - start < deadline
        time.sleep(0.005)
    time.sleep(then_wait)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def whole(project, zoo):
    """The weights of an uninterrupted run."""
    assert zoo(*FIT, "--name", "whole") == 0
    return weights(project / "runs/whole/version_0")


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


@pytest.mark.parametrize(("epochs_before", "fit"), [(1, FIT), (3, TRACKED)])
def test_killed_after_a_checkpoint(project, zoo, zoo_process, whole, epochs_before, fit):
    last = project / "runs/killed/version_0/checkpoints/last.ckpt"
    seen = set()

    def ready():
        if last.is_file():
            seen.add(last.stat().st_mtime_ns)
        return len(seen) >= epochs_before

    process = zoo_process(*fit, "--name", "killed", "--model.pause", "0.03")
    kill_when(process, ready, then_wait=random.random() / 10)
    assert 0 < read(last)["global_step"] < 36
    assert "Resuming" in finish(zoo_process(*fit, "--name", "killed", "--ckpt_path", "last"))
    assert [path.name for path in (project / "runs/killed").iterdir()] == ["version_0"]
    assert_same(weights(project / "runs/killed/version_0"), whole)


def test_killed_before_any_checkpoint(project, zoo_process, whole):
    process = zoo_process(*FIT, "--name", "killed", "--model.pause", "1")
    kill_when(process, lambda: (project / "runs/killed/version_0/record.json").is_file())
    finish(zoo_process(*FIT, "--name", "killed", "--ckpt_path", "last"))
    assert_same(weights(project / "runs/killed/version_1"), whole)


def test_killed_in_the_middle_of_an_epoch(project, zoo, zoo_process, whole):
    last = project / "runs/cut/version_0/checkpoints/last.ckpt"
    every = ("--trainer.callbacks+=LastCheckpoint", "--trainer.callbacks.every_n_train_steps", "4")
    kill_when(zoo_process(*FIT, "--name", "cut", *every, "--model.pause", "0.1"), last.is_file)
    assert read(last)["global_step"] in (4, 8)  # an epoch has 6
    assert zoo(*FIT, "--name", "cut", *every, "--ckpt_path", "last") == 0
    assert_same(weights(project / "runs/cut/version_0"), whole)


def test_st_dim_on_real_frames_killed_twice(project, zoo_process, recordings):
    fit = (
        *("fit", "--config", "stdim_pong", "--data.root", str(recordings), "--data.num_frames", "400"),
        *("--data.num_streams", "4", "--data.batch_size", "4", "--data.min_episode_frames", "2"),
        *("--trainer.max_epochs", "5", "--trainer.limit_train_batches", "10", "--trainer.limit_val_batches", "2"),
        *(
            "--trainer.logger.class_path",
            "RunFolder",
            "--trainer.accelerator",
            "cpu",
            "--trainer.num_sanity_val_steps=0",
        ),
    )
    finish(zoo_process(*fit, "--name", "whole"))
    last = project / "runs/killed/version_0/checkpoints/last.ckpt"
    for epochs in (1, 3):
        again = ("--ckpt_path", "last") if last.is_file() else ()
        process = zoo_process(*fit, "--name", "killed", *again)
        kill_when(process, lambda epochs=epochs: last.is_file() and read(last)["global_step"] >= 10 * epochs)
        assert read(last)["global_step"] < 50
    finish(zoo_process(*fit, "--name", "killed", "--ckpt_path", "last"))
    assert read(last)["global_step"] == 50
    assert_same(weights(last.parents[1]), weights(project / "runs/whole/version_0"))


GAN = """
seed_everything: 0
model:
  class_path: CRVAEGAN
  init_args: {base_channels: 2, latent_channels: 8, hidden_size: 8, averaging_decay: 0.9, halving_period_epochs: 1}
data:
  class_path: AtariFrames
  init_args: {game: boxing, serve: images, color: rgb, image_size: 64, num_frames: 400, num_streams: 4, batch_size: 4}
trainer:
  max_epochs: 4
  limit_train_batches: 10
  limit_val_batches: 2
  num_sanity_val_steps: 0
  accelerator: cpu
  logger: {class_path: lightning_zoo.callbacks.run_folder.RunFolder}
  callbacks+:
    - class_path: LastCheckpoint
      init_args: {every_n_train_steps: 6}
"""


def within_an_epoch(step, least):
    # Two optimizer steps per batch, ten batches per epoch.
    return step >= least and step % 20


def test_a_gan_killed_in_the_middle_of_an_epoch(project, zoo_process, recordings):
    """Both optimizers, gate, warm-up, schedule and averaged weights go on where they were."""
    (project / "crvae_tiny.yaml").write_text(GAN)
    fit = ("fit", "--config", "crvae_tiny.yaml", "--data.root", str(recordings))
    finish(zoo_process(*fit, "--name", "whole"))
    last = project / "runs/killed/version_0/checkpoints/last.ckpt"
    for steps in (6, 46):
        again = ("--ckpt_path", "last") if last.is_file() else ()
        process = zoo_process(*fit, "--name", "killed", *again)
        kill_when(process, lambda steps=steps: last.is_file() and within_an_epoch(read(last)["global_step"], steps))
    finish(zoo_process(*fit, "--name", "killed", "--ckpt_path", "last"))
    ended, whole = (read(project / f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("killed", "whole"))
    assert ended["global_step"] == whole["global_step"] == 80
    assert_same(ended["state_dict"], whole["state_dict"])
    assert {"gate.updates", "gate.skipped", "averaged.n_averaged"} <= set(whole["state_dict"])
    for ours, theirs in zip(ended["optimizer_states"], whole["optimizer_states"], strict=True):
        assert [group["lr"] for group in ours["param_groups"]] == [group["lr"] for group in theirs["param_groups"]]
        for index, state in theirs["state"].items():
            assert_same(ours["state"][index], state)


FACES = """
seed_everything: 0
model:
  class_path: ACVAEGAN
  init_args: {base_channels: 2, latent_channels: 8, hidden_size: 8, averaging_decay: 0.9, halving_period_epochs: 1}
data:
  class_path: CelebA
  init_args: {image_size: 128, batch_size: 4, num_workers: 1}
trainer:
  max_epochs: 4
  limit_train_batches: 5
  limit_val_batches: 1
  num_sanity_val_steps: 0
  accelerator: cpu
  logger: {class_path: lightning_zoo.callbacks.run_folder.RunFolder}
  callbacks+:
    - class_path: lightning_zoo.callbacks.progressive_growth.ProgressiveGrowth
      init_args: {sizes: [128], stage_epochs: 1, fade_epochs: 2, per: step, rate_factor: 0.3}
    - class_path: LastCheckpoint
      init_args: {every_n_train_steps: 6}
"""


def test_faces_killed_while_they_grow(project, zoo_process, faces_root):
    """While 128x128 fades in, twice: the structure, both optimizers and the schedules go on where they were."""
    (project / "faces_tiny.yaml").write_text(FACES)
    fit = ("fit", "--config", "faces_tiny.yaml", "--data.root", str(faces_root), "--data.cache", str(project / "cache"))
    finish(zoo_process(*fit, "--name", "whole"))
    last = project / "runs/killed/version_0/checkpoints/last.ckpt"
    # Two optimizer steps per batch, five batches per epoch: steps 11 to 30 are those of the fade.
    for step in (12, 24):
        again = ("--ckpt_path", "last") if last.is_file() else ()
        process = zoo_process(*fit, "--name", "killed", *again)
        kill_when(process, lambda step=step: last.is_file() and read(last)["global_step"] in range(step, 30))
        assert read(last)["growth"] == {"image_size": 128, "fading": True}
    finish(zoo_process(*fit, "--name", "killed", "--ckpt_path", "last"))
    ended, whole = (read(project / f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("killed", "whole"))
    assert ended["global_step"] == whole["global_step"] == 40
    assert ended["growth"] == whole["growth"] == {"image_size": 128, "fading": False}
    assert_same(ended["state_dict"], whole["state_dict"])
    for ours, theirs in zip(ended["optimizer_states"], whole["optimizer_states"], strict=True):
        assert ours["param_groups"] == theirs["param_groups"]
        for index, state in theirs["state"].items():
            assert_same(ours["state"][index], state)


def test_a_terminated_run_is_no_success(project, zoo_process):
    last = project / "runs/ended/version_0/checkpoints/last.ckpt"
    process = zoo_process(*FIT, "--name", "ended", "--model.pause", "0.2")
    start = time.monotonic()
    while not last.is_file():
        assert time.monotonic() - start < 60
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Terminated; the same command with --ckpt_path last goes on." in error
