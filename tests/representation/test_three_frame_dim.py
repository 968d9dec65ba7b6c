"""Three-frame ST-DIM against the sum over all pairs of second and third frames, written out at each place."""

import math

import pytest
import torch

from lightning_zoo.representation.three_frame_dim import ThreeFrameDIM


@pytest.fixture
def triples():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ThreeFrameDIM()


def project(layer, vectors):
    return vectors @ layer.weight.T + layer.bias


def cube_loss(scores, anchor, second, third):
    """Eq. 5 at one place; vectors (N, D), all N x N x N scores at once."""
    s12 = project(scores["first_second"], anchor) @ second.T
    s13 = project(scores["first_third"], anchor) @ third.T
    s23 = project(scores["second_third"], second) @ third.T
    cube = s12[:, :, None] + s13[:, None, :] + s23[None, :, :]
    own = torch.arange(len(anchor))
    return (cube.flatten(1).logsumexp(1) - cube[own, own, own]).mean()


def loop_losses(model, triples):
    first, second, third = (model.encoder.maps(triples[:, index].float() / 255) for index in range(3))
    features = model.encoder.linear(first["conv4"].flatten(1))
    global_local, local_local = [], []
    for y in range(11):
        for x in range(8):
            local = [maps["conv3"][:, :, y, x] for maps in (first, second, third)]
            global_local.append(cube_loss(model.global_scores, features, *local[1:]))
            local_local.append(cube_loss(model.local_scores, *local))
    return torch.stack(global_local).mean(), torch.stack(local_local).mean()


def test_loss_and_gradient_equal_the_sum_over_pairs(model, triples):
    global_local, local_local = loop_losses(model, triples)
    terms = model.loss(triples)
    torch.testing.assert_close(terms["global_local_loss"], global_local, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["local_local_loss"], local_local, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    fast_gradients = torch.autograd.grad(terms["loss"], parameters)
    slow_gradients = torch.autograd.grad(global_local + local_local, parameters)
    for (name, _), fast, slow in zip(model.named_parameters(), fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4 * float(slow.abs().max()) + 1e-9, msg=name)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_the_sum_tells_the_three_frames_apart(model, triples, order):
    right, wrong = sum(loop_losses(model, triples)), sum(loop_losses(model, triples[:, list(order)]))
    assert abs(right - wrong) > 1e-3


def test_loss_at_chance(model, triples):
    for parameter in [*model.global_scores.parameters(), *model.local_scores.parameters()]:
        torch.nn.init.zeros_(parameter)
    terms = model.loss(triples)
    assert terms["global_local_loss"].item() == pytest.approx(2 * math.log(3), rel=1e-5)
    assert terms["local_local_loss"].item() == pytest.approx(2 * math.log(3), rel=1e-5)


def test_accuracy_counts_second_frames_found_beside_the_own_third(model, triples):
    first, second, third = (model.encoder.maps(triples[:, index].float() / 255)["conv3"] for index in range(3))
    hits = 0
    for y in range(11):
        for x in range(8):
            a, b, c = (maps[:, :, y, x] for maps in (first, second, third))
            s12 = project(model.local_scores["first_second"], a) @ b.T
            s23 = project(model.local_scores["second_third"], b) @ c.T
            for i in range(3):
                candidates = [(s12[i, j] + s23[j, i]).item() for j in range(3)]
                hits += candidates.index(max(candidates)) == i
    assert model.loss(triples)["local_local_accuracy"].item() == pytest.approx(hits / (88 * 3), abs=0.01)


def test_pairs_are_refused_with_the_option_to_set(model, triples):
    with pytest.raises(ValueError, match=r"--data\.clip_length 3"):
        model.training_step({"frames": triples[:, :2]}, 0)


def test_bfloat16_autocast_keeps_the_loss_in_float32(model, triples):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(triples)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(triples)["loss"], rtol=0.05, atol=0.05)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
