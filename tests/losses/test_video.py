"""Losses on clips against sums written out, and the contrastive one in two processes."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist

from lightning_zoo.losses.video import contrastive_prediction, frame_error

CONTRASTS = ("raw", "normalized", "standardized")


def random(*shape, scale=1.0, seed=0):
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))).requires_grad_()


def check_equal(fast, slow, inputs):
    torch.testing.assert_close(fast.double(), slow.double(), rtol=1e-5, atol=1e-6)
    for found, expected in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        assert expected.abs().max() > 1e-4  # a comparison of zeros would prove nothing
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 3, 2, 4, 5)])
def test_frame_error_is_a_mean_over_frames(shape, reduction):
    frames, targets = random(*shape), random(*shape, seed=1)
    total, number = 0.0, 0
    for frame, target in zip(frames.reshape(-1, 40), targets.reshape(-1, 40), strict=True):
        squared = sum((a - b) ** 2 for a, b in zip(frame, target, strict=True))
        total, number = total + (squared if reduction == "sum" else squared / 40), number + 1
    check_equal(frame_error(frames, targets, reduction), total / number, (frames, targets))


def test_frame_error_is_in_float32():
    frames, targets = torch.full((1, 1, 64, 64), 0.5, dtype=torch.bfloat16), torch.zeros(1, 1, 64, 64)
    targets[..., 0, 0] = 0.25
    error = frame_error(frames, targets)
    assert error.dtype == torch.float32
    assert error.item() == 4095 * 0.25 + 0.0625


def slow_scores(predicted, targets, contrast, temperature):
    """A function of two places (clip, step), by the definition of each contrast."""
    batch, steps, _ = targets.shape
    everything = torch.stack([targets[clip, step] for clip in range(batch) for step in range(steps)])
    mean = sum(everything) / len(everything)
    deviation = (sum((each - mean) ** 2 for each in everything) / len(everything)).sqrt()

    def score(place, other):
        query, key = predicted[place], targets[other]
        if contrast == "normalized":
            return (query @ key) / (query.norm() * key.norm() * temperature)
        if contrast == "standardized":
            return ((query - mean) / deviation) @ ((key - mean) / deviation)
        return query @ key

    return score


def slow_contrastive(predicted, targets, contrast="raw", temperature=0.1):
    """Eq. 7.5 as its mean, and how many are nearest to their own."""
    targets = targets.detach().double()
    predicted = predicted.double()
    score = slow_scores(predicted, targets, contrast, temperature)
    places = [(clip, step) for clip in range(targets.shape[0]) for step in range(targets.shape[1])]
    total, right = 0.0, 0
    for place in places:
        scores = {other: score(place, other) for other in places}
        total = total - torch.log(scores[place].exp() / sum(value.exp() for value in scores.values()))
        right += max(scores, key=lambda other: scores[other].item()) == place
    return total / len(places), right / len(places)


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("contrast", CONTRASTS)
def test_contrastive_prediction_is_the_explicit_sum(contrast, temperature):
    predicted, targets = random(3, 4, 5), (random(3, 4, 5, seed=1) * torch.tensor([1, 3, 0.3, 1, 2]) + 0.5).detach()
    predicted = (predicted + 0.5 * targets).detach().requires_grad_()
    loss, accuracy = contrastive_prediction(predicted, targets, contrast, temperature)
    expected, right = slow_contrastive(predicted, targets, contrast, temperature)
    check_equal(loss, expected, (predicted,))
    assert accuracy.item() == pytest.approx(right)
    assert 0 < right < 1


def test_contrasts_differ():
    predicted, targets = random(3, 4, 5), random(3, 4, 5, seed=1)
    assert len({contrastive_prediction(predicted, targets, name)[0].item() for name in CONTRASTS}) == 3


@pytest.mark.parametrize(("clips", "steps"), [(2, 7), (64, 7), (3, 1)])
def test_chance(clips, steps):
    loss, accuracy = contrastive_prediction(torch.zeros(clips, steps, 4), random(clips, steps, 4))
    assert loss.item() == pytest.approx(math.log(clips * steps), rel=1e-5)
    assert accuracy.item() == pytest.approx(1 / (clips * steps)), "the first of equals is taken to be nearest"


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_targets_get_no_gradient(contrast):
    predicted, targets = random(2, 3, 4), random(2, 3, 4, seed=1)
    loss, accuracy = contrastive_prediction(predicted, targets, contrast)
    gradients = torch.autograd.grad(loss, (predicted, targets), allow_unused=True)
    assert gradients[0].abs().max() > 1e-3
    assert gradients[1] is None
    assert not accuracy.requires_grad


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_scores_stay_in_float32_under_autocast(contrast):
    predicted, targets = random(4, 3, 64, scale=3.0).bfloat16(), random(4, 3, 64, scale=3.0, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = contrastive_prediction(predicted, targets, contrast)
    assert loss.dtype == torch.float32
    expected, _ = contrastive_prediction(predicted.float(), targets.float(), contrast)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)


def _of_a_process(rank, folder, predicted, targets):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    own = predicted.chunk(2)[rank].detach().requires_grad_()
    for contrast in CONTRASTS:
        loss, accuracy = contrastive_prediction(own, targets.chunk(2)[rank], contrast)
        found[contrast] = [loss.detach(), accuracy, torch.autograd.grad(loss, own)[0]]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one_on_the_joint_batch(tmp_path):
    predicted, targets = random(4, 3, 5).detach(), random(4, 3, 5, seed=1).detach()
    predicted = (predicted + 0.5 * targets).requires_grad_()
    mp.start_processes(_of_a_process, args=(str(tmp_path), predicted.detach(), targets), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for contrast in CONTRASTS:
        loss, accuracy = contrastive_prediction(predicted, targets, contrast)
        torch.testing.assert_close((first[contrast][0] + second[contrast][0]) / 2, loss)
        assert abs(first[contrast][0] - second[contrast][0]) > 1e-3
        torch.testing.assert_close((first[contrast][1] + second[contrast][1]) / 2, accuracy)
        # DDP takes the mean over processes of what each has for the weights behind its own predictions.
        together = torch.cat([first[contrast][2], second[contrast][2]]) / 2
        torch.testing.assert_close(together, torch.autograd.grad(loss, predicted)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 4)])
def test_a_component_that_never_changes_tells_nothing(shape):
    targets = random(*shape).detach()
    targets[..., 0] = 2.0
    loss, _ = contrastive_prediction(random(*shape, seed=1), targets, "standardized")
    without, _ = contrastive_prediction(random(*shape, seed=1)[..., 1:], targets[..., 1:], "standardized")
    torch.testing.assert_close(loss, without)
