"""Completion: the objective against loops, the search against least squares, restarts, what is left alone."""

import math

import pytest
import torch

from lightning_zoo.generative.completion import Search, complete, objective, search_latents
from lightning_zoo.generative.latent_model import held_still
from lightning_zoo.generative.masks import named_mask


@pytest.fixture
def model(generative_toy):
    return generative_toy.LinearToy().eval()


@pytest.fixture
def judged(generative_toy):
    return generative_toy.AdversarialToy().eval()


@pytest.fixture
def images():
    return torch.rand((3, 1, 8, 8), generator=torch.Generator().manual_seed(1))


def slow_objective(z, image, mask, model, gamma, tau, mean=False):
    """Pixel by pixel, from the printed formula with the sign of the density turned."""
    weights, values = model.decoder.weight.tolist(), z.flatten().tolist()
    drawn = [0.5 + sum(w * v for w, v in zip(row, values, strict=True)) for row in weights]
    error = 0.0
    for x_hat, x, m in zip(drawn, image.flatten().tolist(), mask.flatten().tolist(), strict=True):
        error += (m * (2 * x_hat - 1) - m * (2 * x - 1)) ** 2
    if mean:
        error /= len(drawn)
    log_density = sum(math.log(math.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)) for value in values)
    loss = error - gamma * log_density
    if tau:
        judge = zip(model.judge.weight[0].tolist(), drawn, strict=True)
        logit = model.judge.bias.item() + sum(weight * x_hat for weight, x_hat in judge)
        loss += tau * math.log(1 - 1 / (1 + math.exp(-logit)))
    return loss


@pytest.mark.parametrize("error", ["sum", "mean"])
@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_the_objective_against_a_loop(judged, images, tau, error):
    mask = named_mask("lower", 8, 8)
    z = torch.randn((3, 4, 2, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    judged = judged.double()
    search = Search(prior_weight=0.3, adversarial_weight=tau, error=error)
    free = z.clone().requires_grad_(True)
    got = objective(free, judged.decode(free), images.double(), mask.double(), search, judged.realness)
    expected = [slow_objective(z[i], images[i], mask, judged, 0.3, tau, error == "mean") for i in range(3)]
    assert got.tolist() == pytest.approx(expected, rel=1e-9)
    (gradient,) = torch.autograd.grad(got.sum(), [free])
    for place in [(0, 0, 0), (2, 1, 0), (3, 1, 1)]:
        step = torch.zeros_like(z[0])
        step[place] = 1e-5
        up, down = (
            slow_objective(z[0] + s * step, images[0], mask, judged, 0.3, tau, error == "mean") for s in (1, -1)
        )
        assert float(gradient[0][place]) == pytest.approx((up - down) / 2e-5, rel=1e-4)


def test_unlikely_latents_cost_more(model, images):
    small, large = torch.full((3, 4, 2, 2), 0.1), torch.full((3, 4, 2, 2), 3.0)
    decoded, mask = torch.rand(3, 1, 8, 8), torch.ones(1, 8, 8)
    search = Search(prior_weight=1.0)
    assert (objective(large, decoded, images, mask, search) > objective(small, decoded, images, mask, search)).all()


def test_images_that_look_real_cost_less(judged, images):
    mask, z = torch.ones(1, 8, 8), torch.zeros(3, 4, 2, 2)
    search = Search(adversarial_weight=1.0)
    real, fake = (objective(z, images, images, mask, search, lambda x, v=v: torch.full((3,), v)) for v in (90.0, -90.0))
    assert real.isfinite().all(), "log(1 - D) of a certain discriminator"
    assert (real < fake).all()


def test_without_a_prior_the_search_finds_least_squares(model, images):
    mask = named_mask("right", 8, 8)
    search = Search(steps=800, learning_rate=0.05, prior_weight=0.0)
    found = complete(model, images, mask, restarts=2, search=search)
    rows = mask.flatten().bool()
    solution = torch.linalg.lstsq(model.decoder.weight[rows].detach(), (images.flatten(1)[:, rows] - 0.5).T).solution
    for restart in found.latents:
        torch.testing.assert_close(restart.flatten(1), solution.T, atol=2e-3, rtol=0)


def test_a_strong_prior_draws_the_latents_to_zero(model, images):
    search = Search(steps=400, learning_rate=0.05, prior_weight=1e4)
    assert complete(model, images, named_mask("right", 8, 8), search=search).latents.abs().max() < 1e-2


def test_restarts_in_one_batch_equal_restarts_one_by_one(judged, images):
    mask = named_mask("eyes", 8, 8).expand_as(images)
    start = torch.randn((3, 3, 4, 2, 2), generator=torch.Generator().manual_seed(3))
    search = Search(steps=30)
    with held_still(judged):
        together = search_latents(judged, images, mask, start, search)
        for r in range(3):
            for i in range(3):
                alone = search_latents(judged, images[[i]], mask[[i]], start[[r]][:, [i]], search)
                for joint, single in zip(together, alone, strict=True):
                    torch.testing.assert_close(joint[r, i], single[0, 0], atol=1e-5, rtol=1e-5)


def test_the_size_of_a_batch_changes_nothing(judged, images):
    mask = named_mask("blocks", 8, 8)
    first, second = (complete(judged, images, mask, restarts=2, batch_size=size) for size in (2, 128))
    torch.testing.assert_close(first.images, second.images, atol=1e-5, rtol=1e-5)


def test_known_pixels_stay_and_hidden_ones_are_never_read(model, images):
    mask = named_mask("left", 8, 8)
    found = complete(model, images, mask, search=Search(steps=20))
    assert torch.equal(found.images * mask, images * mask)
    assert torch.equal(found.images * (1 - mask), found.decoded * (1 - mask))
    other = torch.where(mask.bool(), images, 1 - images)
    assert torch.equal(complete(model, other, mask, search=Search(steps=20)).latents, found.latents)


def test_the_best_restart_is_the_one_that_cost_least(model, images):
    found = complete(model, images, named_mask("upper", 8, 8), restarts=5, start="prior", search=Search(steps=3))
    for i in range(3):
        least = min(range(5), key=lambda r: float(found.objectives[r, i]))
        assert int(found.best[i]) == least
        assert torch.equal(found.decoded[i], found.restarts[least, i])


@pytest.mark.parametrize("start", ["both", "posterior", "prior"])
def test_where_the_search_starts(model, images, start):
    mask = named_mask("center", 8, 8)
    # So small a rate leaves the latents where they started.
    found = complete(model, images, mask, restarts=3, start=start, search=Search(steps=1, learning_rate=1e-9)).latents
    mean, log_variance = model.posterior(mask * images + (1 - mask) * 0.5)
    is_mean = [torch.allclose(restart, mean, atol=1e-6) for restart in found]
    assert is_mean == [start != "prior", False, False]
    noise = torch.randn((9, 4, 2, 2), generator=torch.Generator().manual_seed(0)).reshape(3, 3, 4, 2, 2)[1]
    expected = mean + log_variance.exp().sqrt() * noise if start == "posterior" else noise
    torch.testing.assert_close(found[1], expected, atol=1e-6, rtol=1e-6)


def test_the_model_and_the_global_state_are_left_alone(generative_toy, images):
    model = generative_toy.AdversarialToy().train()
    model.judge.eval()
    model.decoder.bias.requires_grad_(False)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = complete(model, images, named_mask("half", 8, 8), search=Search(steps=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.dropout.training
    assert not model.judge.training
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert flags == {name: name != "decoder.bias" for name in flags}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    again = complete(model.eval(), images, named_mask("half", 8, 8), search=Search(steps=2))
    assert torch.equal(found.images, again.images), "dropout was switched off"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.rand(2, 1, 9, 8)}, "images must be 1x8x8"),
        ({"mask": torch.ones(1, 8, 8)}, "hides nothing"),
        ({"mask": torch.zeros(1, 8, 8)}, "hides everything"),
        ({"mask": torch.ones(1, 8, 9)}, "mask must be 1x8x8"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"restarts": 5, "batch_size": 4}, "batch_size must be at least restarts.* 4 .* 5"),
        ({"start": "mean"}, "start must be"),
    ],
)
def test_refusals(model, images, change, said):
    arguments = {"images": images, "mask": named_mask("half", 8, 8)} | change
    with pytest.raises(ValueError, match=said) as caught:
        complete(model, **arguments)
    assert "\n" not in str(caught.value)


def test_a_search_that_explodes_says_so(model, images):
    with pytest.raises(ValueError, match="learning_rate"):
        complete(model, images, named_mask("half", 8, 8), search=Search(steps=4, learning_rate=1e30))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"prior_weight": -1.0}, {"adversarial_weight": math.nan}]
)
def test_a_search_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Search(**wrong)


def test_recurrent_layers_keep_a_backward_pass_on_a_gpu():
    # cuDNN refuses it in evaluation mode; dropout must stay off.
    layers = {"plain": torch.nn.LSTM(2, 2), "dropping": torch.nn.LSTM(2, 2, num_layers=2, dropout=0.5)}
    model = torch.nn.ModuleDict(layers | {"norm": torch.nn.BatchNorm1d(2), "dropout": torch.nn.Dropout()}).eval()
    with held_still(model):
        assert [name for name, layer in model.items() if layer.training] == ["plain"]
    assert not any(layer.training for layer in model.modules())
