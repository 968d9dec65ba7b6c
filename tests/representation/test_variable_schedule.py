import pytest
import torch

from lightning_zoo.representation.variable_schedule import VariableSchedule

EPOCHS = 60


class SlowStopping:
    """The benchmark's early stopping of one probe, as a plain loop."""

    def __init__(self, patience):
        self.patience, self.best, self.count, self.stopped = patience, None, 0, False

    def step(self, score):
        if self.best is None or score > self.best:
            self.best, self.count = score, 0
        else:
            self.count += 1
            self.stopped = self.count >= self.patience


def curves():
    """Flat, rising, rising below the plateau's threshold, noisy, falling, and repeating scores."""
    generator = torch.Generator().manual_seed(3)
    epochs = torch.arange(EPOCHS, dtype=torch.float64)
    noise = torch.rand(EPOCHS, 4, generator=generator, dtype=torch.float64)
    return torch.stack(
        [
            torch.full_like(epochs, 0.25),
            epochs / EPOCHS,
            0.5 + epochs * 1e-6,
            *(noise * torch.tensor([1.0, 0.1, 0.01, 0.5])).T,
            1 - epochs / EPOCHS,
            torch.minimum(epochs, torch.tensor(20.0)) / 20,
            (epochs % 7) / 7,
        ],
        dim=1,
    )


@pytest.mark.parametrize(("patience", "stop_patience"), [(5, 15), (1, 40), (0, 3)])
def test_equals_the_schedulers_of_separate_models(patience, stop_patience):
    scores = curves()
    models = scores.shape[1]
    schedule = VariableSchedule(models, learning_rate=3e-4, patience=patience, stop_patience=stop_patience)
    optimizers = [torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=3e-4) for _ in range(models)]
    plateaus = [
        torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="max", factor=0.2, patience=patience, min_lr=1e-5)
        for o in optimizers
    ]
    stops = [SlowStopping(stop_patience) for _ in range(models)]
    seen_rates = set()
    for epoch in range(EPOCHS):
        schedule.step(scores[epoch])
        for k in range(models):
            if not stops[k].stopped:
                stops[k].step(scores[epoch, k].item())
            if not stops[k].stopped:
                plateaus[k].step(scores[epoch, k].item())
            assert schedule.stopped[k].item() == stops[k].stopped, (epoch, k)
            rate = optimizers[k].param_groups[0]["lr"]
            assert schedule.learning_rates[k].item() == rate, (epoch, k)
            assert schedule.rates()[k].item() == (0.0 if stops[k].stopped else rate)
            seen_rates.add(rate)
    assert 0 < sum(stop.stopped for stop in stops) < models
    assert len(seen_rates) >= 2


def test_improvement_is_reported_until_the_stop():
    schedule = VariableSchedule(2, stop_patience=2)
    reported = [schedule.step(torch.tensor(s)).tolist() for s in ([0.1, 0.5], [0.2, 0.5], [0.2, 0.5], [0.3, 0.9])]
    assert reported == [[True, True], [True, False], [False, False], [True, False]]


def test_state_goes_on_from_a_checkpoint():
    scores = curves()
    whole, first = VariableSchedule(scores.shape[1]), VariableSchedule(scores.shape[1])
    for epoch in range(12):
        whole.step(scores[epoch])
        first.step(scores[epoch])
    second = VariableSchedule(scores.shape[1])
    second.load_state_dict(first.state_dict())
    for epoch in range(12, 30):
        assert torch.equal(whole.step(scores[epoch]), second.step(scores[epoch]))
    assert torch.equal(whole.rates(), second.rates())


def test_precision_and_device_of_the_models_do_not_touch_the_state():
    scores = curves()
    plain, moved = VariableSchedule(scores.shape[1]), VariableSchedule(scores.shape[1])
    moved = torch.nn.ModuleDict({"schedule": moved}).to(torch.bfloat16)["schedule"]
    for epoch in range(30):
        plain.step(scores[epoch])
        moved.step(scores[epoch])
    assert torch.equal(moved.rates(), plain.rates())
    assert torch.equal(moved.best, plain.best)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"plateau_factor .*1\.5"):
        VariableSchedule(1, factor=1.5)
    with pytest.raises(ValueError, match=r"stop_patience .*0"):
        VariableSchedule(1, stop_patience=0)
