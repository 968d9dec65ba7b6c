"""Attributes come to be seen at the step that adds them: the toy's attribute t lights up column 2 t of the picture."""

import math

import pytest
import torch

from lightning_zoo.generative.attribute_emergence import Emergence, attended_steps, attribute_emergence


@pytest.fixture
def model(conditional_toy):
    """With an attention that is all but certain, in an order of its own, and latents that hardly show."""
    model = conditional_toy.ConditionalToy()
    with torch.no_grad():
        model.scores.zero_()
        for column, step in enumerate((3, 0, 2, 1, 1)):
            model.scores[step, column] = 20
        model.latent_weights.mul_(1e-4)
    return model


def lit(images):
    """What a perfect classifier of the toy's pictures sees."""
    return images[..., :10:2].mean((1, 2)) - 0.5


def mixed(number, seed=0):
    return torch.randint(0, 2, (number, 5), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1


def test_each_attribute_appears_at_its_step(model):
    emergence = attribute_emergence(model, lit, mixed(64), batch_size=16)
    assert emergence.balanced.shape == emergence.accuracy.shape == (5, 5)
    assert emergence.steps().tolist() == [4, 1, 3, 2, 2] == list(attended_steps(model).values())
    for column, step in enumerate((4, 1, 3, 2, 2)):
        torch.testing.assert_close(emergence.balanced[step:, column], torch.ones(5 - step), atol=0.01, rtol=0)
        assert 0.3 < emergence.balanced[:step, column].max() < 0.8
    assert (emergence.rises() > 0.25).all()


def test_a_rare_attribute_is_no_easy_one(model):
    asked = mixed(40)
    asked[:, 1] = -1
    asked[:4, 1] = 1
    never = attribute_emergence(model, lambda images: -torch.ones(len(images), 5), asked)
    assert never.accuracy[0, 1] == pytest.approx(0.9)
    assert never.balanced[0, 1] == pytest.approx(0.5)


def test_unknown_attributes_are_not_judged(model):
    asked = mixed(12)
    asked[:, 3] = 0
    emergence = attribute_emergence(model, lit, asked)
    assert emergence.balanced[:, 3].isnan().all()
    assert not emergence.balanced[:, :3].isnan().any()


def test_parts_have_noise_of_their_own(model, monkeypatch):
    seen = []
    draw = type(model).draw
    monkeypatch.setattr(type(model), "draw", lambda self, a, **given: seen.append(draw(self, a, **given)) or seen[-1])
    attribute_emergence(model, lit, torch.ones(6, 5), batch_size=15)
    assert [len(part) for part in seen] == [3, 3]
    assert not torch.equal(seen[0], seen[1])


def test_the_largest_rise_is_found_also_where_a_value_is_missing():
    balanced = torch.tensor([[0.5, math.nan], [0.6, math.nan], [0.9, math.nan], [1.0, math.nan]])
    emergence = Emergence(balanced, balanced)
    assert emergence.steps()[0] == 2
    assert emergence.rises()[0] == pytest.approx(0.3)
    assert emergence.rises()[1].isnan()


def test_a_method_without_attention_attends_nothing():
    assert attended_steps(torch.nn.Linear(1, 1)) is None
