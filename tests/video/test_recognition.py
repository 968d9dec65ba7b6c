"""The classifier's pooled head, the weights that it begins with, and verdicts on whole videos."""

import lightning as L
import pytest
import torch
from torch.nn import functional as F
from video_toy import DECOMPOSITION, TINY, MovingSquares, copied, fitted, moving_squares, saved, shaken, trainer

from lightning_zoo.checkpoints import load
from lightning_zoo.video.block_stn import BlockSTN
from lightning_zoo.video.statics_dynamics import StaticsDynamics
from lightning_zoo.video.video_autoencoder import VideoAutoencoder
from lightning_zoo.video.video_classifier import VideoClassifier

CLASSES = ["left", "right", "up"]


def classifier(**options):
    torch.manual_seed(0)
    return VideoClassifier(**(TINY | {"head": "pooled"} | options))


def decomposition(**options):
    torch.manual_seed(1)
    return shaken(StaticsDynamics(**(DECOMPOSITION | {"transformer_epochs": 0} | options)))


class TwoClips(MovingSquares):
    """Clips of which two or three, not side by side, are of one video."""

    def batch(self, split, rows):
        found = super().batch(split, rows)
        return found | {"videos": rows % 3, "labels": rows % 3}


def test_the_pooled_head_is_a_mean_and_one_layer():
    module = classifier(class_names=CLASSES, frame_size=32).eval()
    clips = moving_squares(3, size=32)  # so that the fourth stage has four places
    assert {name for name, _ in module.named_parameters() if not name.startswith("network.0.")} == {
        "classes.weight",
        "classes.bias",
    }
    stage = module.network[0]((clips / 255).transpose(1, 2))
    assert stage.shape == (3, 16, 1, 2, 2)
    pooled = torch.stack([clip.flatten(1).mean(1) for clip in stage])
    assert module.encode(clips).shape == (3, module.feature_size) == (3, 16)
    torch.testing.assert_close(module.features(clips)["features"], pooled)
    torch.testing.assert_close(module(clips), F.linear(pooled, module.classes.weight, module.classes.bias))


def test_a_pooled_classifier_is_loaded_again(tmp_path):
    run = fitted(classifier(), data=MovingSquares(classes=CLASSES))
    run.save_checkpoint(tmp_path / "pooled.ckpt")
    again = load(tmp_path / "pooled.ckpt")
    clips = moving_squares(2)
    assert torch.equal(again(clips), run.lightning_module.eval()(clips))


def taken(module, path):
    module.take_weights(path)
    return module


def test_four_stages_of_statics_and_dynamics_are_taken(tmp_path):
    source = decomposition().eval()
    path = saved(source, tmp_path / "source.ckpt")
    clips = moving_squares(2)
    trunk = source.networks.video.trunk((clips / 255).transpose(1, 2))
    stage = source.networks.video.last_stage(trunk)
    for head in ("pooled", "features"):
        module = classifier(head=head)
        before = copied(module)
        found = taken(module, path).eval().network[0]((clips / 255).transpose(1, 2))
        assert torch.equal(found, stage)
        rest = {name for name, value in copied(module).items() if not name.startswith("network.0.")}
        assert all(torch.equal(before[name], module.state_dict()[name]) for name in rest), "the head is its own"


def test_four_stages_of_a_classifier_are_taken_whatever_its_head(tmp_path):
    source = shaken(classifier(head="features", feature_size=6, class_names=CLASSES)).eval()
    module = taken(classifier(), saved(source, tmp_path / "source.ckpt")).eval()
    clips = (moving_squares(2) / 255).transpose(1, 2)
    assert torch.equal(module.network[0](clips), source.network[0](clips))


class AtTheStart(L.Callback):
    def on_train_start(self, trainer, module):
        self.weights = copied(module.network[0])


def test_a_new_run_begins_with_them_and_no_other_does(tmp_path):
    path = saved(decomposition(), tmp_path / "source.ckpt")
    data, start = MovingSquares(classes=CLASSES), AtTheStart()
    wanted = copied(taken(classifier(), path).network[0])
    run = fitted(classifier(initial_weights=str(path)), start, data=data, num_sanity_val_steps=0)
    assert all(torch.equal(value, wanted[name]) for name, value in start.weights.items())
    run.save_checkpoint(tmp_path / "half.ckpt")
    half = copied(run.lightning_module.network[0])
    assert any(not torch.equal(value, wanted[name]) for name, value in half.items())
    path.unlink()  # neither a resumed run nor a loaded method needs it any more
    resumed = classifier(initial_weights=str(path))
    fitted(resumed, start, data=data, ckpt_path=tmp_path / "half.ckpt", max_epochs=2, num_sanity_val_steps=0)
    assert all(torch.equal(value, half[name]) for name, value in start.weights.items())
    again = load(tmp_path / "half.ckpt")
    trainer().test(again, data, verbose=False)
    assert all(torch.equal(value, half[name]) for name, value in copied(again.network[0]).items())


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (lambda: BlockSTN(frame_size=16, channels=4), {}, "holds BlockSTN, name a checkpoint of StaticsDynamics or Vi"),
        (lambda: VideoAutoencoder(**TINY, feature_size=6), {}, "holds VideoAutoencoder, name a checkpoint"),
        (decomposition, {"base_channels": 4}, "does not fit: set frame_channels and base_channels as it has them"),
        (decomposition, {"frame_channels": 3}, "does not fit: set frame_channels and base_channels"),
        (decomposition, {"pixels": "signed"}, "has pixels='unit', this run 'signed': set --model.pixels"),
        (lambda: decomposition(transformer_epochs=2), {}, "was written in the first phase, before its video encoder"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path, source, options, message):
    path = saved(source(), tmp_path / "source.ckpt")
    module = classifier(**options)
    before = copied(module)
    with pytest.raises(ValueError, match=message) as caught:
        module.take_weights(path)
    assert str(caught.value).startswith(f"initial_weights: {path} ")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in copied(module).items())


def test_a_missing_file_and_an_unknown_head_are_named(tmp_path):
    with pytest.raises(ValueError, match="^initial_weights: No checkpoint .*absent.ckpt"):
        fitted(classifier(initial_weights=str(tmp_path / "absent.ckpt")), data=MovingSquares(classes=CLASSES))
    with pytest.raises(ValueError, match="^head must be 'features' or 'pooled', got 'flat'$"):
        classifier(head="flat")


def test_the_clips_of_a_video_answer_together():
    module = shaken(classifier(class_names=CLASSES), 1.0).eval()
    with torch.no_grad():
        module.classes.bias -= module(moving_squares(8, seed=1)).mean(0)  # so that no class wins everywhere
    data, run = TwoClips(rows=8, batch_size=3, classes=CLASSES), trainer()
    run.test(module, data, verbose=False)
    with torch.no_grad():
        logits = module(data.clips["val"])
    means = [sum(logits[row] for row in range(8) if row % 3 == video) for video in range(3)]
    right = [mean.argmax().item() == video for video, mean in enumerate(means)]
    assert run.callback_metrics["test/video_accuracy"].item() == pytest.approx(sum(right) / 3)
    assert run.callback_metrics["test/video_balanced_accuracy"].item() == pytest.approx(sum(right) / 3)
    by_clip = sum(logits[row].argmax().item() == row % 3 for row in range(8)) / 8
    assert run.callback_metrics["test/accuracy"].item() == pytest.approx(by_clip)
    assert not module.votes.update_called, "the next evaluation begins anew"


def test_validation_tells_of_videos_and_checkpoints_hold_no_votes():
    run = fitted(classifier(), data=TwoClips(classes=CLASSES))
    assert {"val/video_accuracy", "val/video_balanced_accuracy", "val/accuracy"} <= run.callback_metrics.keys()
    assert not any(name.startswith("votes") for name in run.lightning_module.state_dict())


def test_batches_that_name_no_videos_are_scored_by_clip():
    class Bare(MovingSquares):
        def batch(self, split, rows):
            return {name: value for name, value in super().batch(split, rows).items() if name != "videos"}

    run = fitted(classifier(), data=Bare(classes=CLASSES))
    assert "val/accuracy" in run.callback_metrics
    assert "val/video_accuracy" not in run.callback_metrics
