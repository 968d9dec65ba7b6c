"""When resolutions grow, and what optimizers and schedules keep of it."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_zoo.callbacks.growth import GrowthSchedule, regroup, restart


def test_as_published():
    """150 epochs at 64 and 150 at 128, alpha min(2 (epoch - 1) / 150, 1) in epoch 1, 2, ... after the growth."""
    schedule = GrowthSchedule((128,))
    assert all(schedule.at(epoch, 0.0, 300) == (64, 1.0) for epoch in range(150))
    for epoch in range(1, 151):
        size, alpha = schedule.at(149 + epoch, 0.9, 300)
        assert size == 128
        assert alpha == pytest.approx(min(2 * (epoch - 1) / 150, 1))
    assert schedule.at(150, 0.0, 300) == (128, 0.0)
    assert schedule.at(224, 0.0, 300)[1] < 1
    assert schedule.at(225, 0.0, 300) == (128, 1.0)
    assert schedule.ends_fading(300)


def test_by_hand():
    schedule = GrowthSchedule((32, 64), stage_epochs=4, fade_epochs=2, per="step")
    seen = [
        schedule.at(epoch, done, 20) for epoch, done in [(3, 0.9), (4, 0.0), (4, 0.5), (5, 0.5), (6, 0.0), (8, 0.5)]
    ]
    assert seen == [(16, 1.0), (32, 0.0), (32, 0.25), (32, 0.75), (32, 1.0), (64, 0.25)]
    assert schedule.at(100, 0.0, -1) == (64, 1.0)
    assert GrowthSchedule((32,), 4, 0).at(4, 0.0, 20) == (32, 1.0)
    assert [GrowthSchedule((32,)).at(epoch, 0.0, 7) for epoch in (2, 3, 4, 5)] == [
        (16, 1.0),
        (32, 0.0),
        (32, pytest.approx(1 / 1.5)),
        (32, 1.0),
    ]


def test_growth_at_once():
    """As released: 150 epochs at 128 in a run of their own, from the weights of the run at 64."""
    schedule, later = GrowthSchedule((128,), 0), GrowthSchedule((128,))
    assert all(schedule.at(epoch, 0.0, 150) == later.at(150 + epoch, 0.0, 300) for epoch in range(150))
    assert GrowthSchedule((128,), 0, 10).at(5, 0.0, -1) == (128, 0.5)


@st.composite
def schedules(draw):
    sizes = tuple(2 ** (4 + number) for number in range(draw(st.integers(1, 3))))
    stage = draw(st.none() | st.integers(1, 9))
    fade = draw(st.none() | st.floats(0, stage)) if stage else draw(st.none())
    return GrowthSchedule(sizes, stage, fade, draw(st.sampled_from(["epoch", "step"])))


@given(schedules(), st.integers(0, 8), st.integers(1, 5))
def test_it_never_goes_back_and_ends_at_the_last_size(schedule, more, batches):
    stages = len(schedule.sizes) + 1
    max_epochs = (schedule.stage_epochs or 4) * stages + more
    states = [schedule.at(e, b / batches, max_epochs) for e in range(max_epochs) for b in range(batches)]
    assert states[0] == (schedule.first_size, 1.0)
    assert states == sorted(states, key=lambda state: (state[0], state[1] if state[0] > schedule.first_size else 0))
    assert [size for size in (8, *schedule.sizes) if size in dict(states)] == [8, *schedule.sizes]
    assert all(0 <= alpha <= 1 for _, alpha in states)
    begun = dict(reversed(states))
    fade = schedule.fade(max_epochs)
    assert all(begun[size] == (0.0 if fade else 1.0) for size in schedule.sizes)
    assert schedule.at(max_epochs + 10, 0.0, max_epochs)[1] == 1.0
    if schedule.per == "epoch":
        assert len(set(states)) <= max_epochs
        assert schedule.ends_fading(max_epochs) == (states[-1][1] == 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": ()}, r"sizes must begin with an even number, got \[\]"),
        ({"sizes": (65,)}, r"sizes must begin with an even number, got \[65\]"),
        ({"sizes": (128, 512)}, r"sizes must double from one to the next, got \[128, 512\]"),
        ({"stage_epochs": -1}, "stage_epochs must be at least 0, got -1"),
        ({"sizes": (128, 256), "stage_epochs": 0}, "stage_epochs must be at least 1, got 0"),
        ({"fade_epochs": -1}, "fade_epochs must not be negative, got -1"),
        ({"fade_epochs": float("nan")}, "fade_epochs must not be negative, got nan"),
        ({"sizes": (128, 256), "stage_epochs": 2, "fade_epochs": 3}, "fade_epochs=3 is longer than stage_epochs=2"),
        ({"per": "batch"}, "per must be 'epoch' or 'step', got 'batch'"),
    ],
)
def test_schedules_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        GrowthSchedule(**({"sizes": (128,)} | arguments))


@pytest.mark.parametrize(
    ("arguments", "max_epochs", "message"),
    [
        ({}, -1, "stage_epochs is needed where max_epochs is unlimited"),
        ({}, 1, "max_epochs=1 ends before the growth to 128 in epoch 1; raise it, or lower stage_epochs"),
        ({"stage_epochs": 4}, 4, "max_epochs=4 ends before the growth to 128 in epoch 4"),
        ({"stage_epochs": 0}, -1, "fade_epochs is needed where stage_epochs is 0 and max_epochs unlimited"),
    ],
)
def test_schedules_without_room(arguments, max_epochs, message):
    with pytest.raises(ValueError, match=message):
        GrowthSchedule((128,), **arguments).at(0, 0.0, max_epochs)


def test_a_fade_that_the_run_does_not_finish():
    assert not GrowthSchedule((128,), 4, 2).ends_fading(6)  # alpha 0 and 1/2
    assert GrowthSchedule((128,), 4, 2).ends_fading(7)
    assert GrowthSchedule((128,), 4, 2, "step").ends_fading(6)
    assert not GrowthSchedule((128,), 4, 2, "step").ends_fading(5)
    assert not GrowthSchedule((128,), 4, 1e-20).ends_fading(5)


def weight(seed, size=3):
    return nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(seed)))


def adam(*groups):
    options = [{"lr": 0.1, "warms_up": True}, {"lr": 0.2, "betas": (0.5, 0.9)}]
    return torch.optim.Adam([{"params": list(group), **options[i]} for i, group in enumerate(groups)])


def steps(optimizer, number=3):
    for index in range(number):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.sin(parameter.detach() + index)
        optimizer.step()


def test_what_stays_learns_on_as_if_it_had_been_alone():
    kept, moved, gone, new = weight(0), weight(1), weight(2), weight(3)
    alone = copy.deepcopy([kept, moved])
    optimizer, reference = adam([gone, kept], [moved]), adam([alone[0]], [alone[1]])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for one in (optimizer, reference):
        steps(one)
    before = {name: value.clone() for name, value in optimizer.state[kept].items()}
    regroup(optimizer, [{"params": [kept]}, {"params": iter([new, moved])}])
    assert set(optimizer.state) == {kept, moved}
    assert all(torch.equal(optimizer.state[kept][name], value) for name, value in before.items())
    first, second = optimizer.param_groups
    assert [first["warms_up"], second["betas"], first["initial_lr"], second["lr"]] == [True, (0.5, 0.9), 0.1, 0.2]
    assert schedule.optimizer.param_groups is optimizer.param_groups
    lonely = adam([], [copy.deepcopy(new)])
    for one in (optimizer, reference, lonely):
        steps(one)
    assert torch.equal(kept, alone[0])
    assert torch.equal(moved, alone[1])
    assert torch.equal(new, lonely.param_groups[1]["params"][0])
    assert optimizer.state[new]["step"] == 3
    assert optimizer.state[kept]["step"] == 6
    saved = optimizer.state_dict()
    assert [group["params"] for group in saved["param_groups"]] == [[0], [1, 2]]
    assert sorted(saved["state"]) == [0, 1, 2]


def test_the_same_groups_again_change_nothing():
    first, second = weight(0), weight(1)
    optimizer = adam([first], [second])
    steps(optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    regroup(optimizer, [{"params": [first]}, {"params": [second]}])
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert all(torch.equal(before["state"][i][k], v) for i in (0, 1) for k, v in after["state"][i].items())


def test_through_the_wrapper_of_lightning():
    from lightning.pytorch.core.optimizer import LightningOptimizer

    first, second = weight(0), weight(1)
    optimizer = adam([first])
    regroup(LightningOptimizer(optimizer), [{"params": [second]}])
    assert optimizer.param_groups[0]["params"] == [second]


def test_groups_that_do_not_fit():
    first, second = weight(0), weight(1)
    optimizer = adam([first], [second])
    with pytest.raises(ValueError, match="groups has 1 entries, the optimizer has 2 groups"):
        regroup(optimizer, [{"params": [first]}])
    with pytest.raises(ValueError, match="a parameter twice"):
        regroup(optimizer, [{"params": [first]}, {"params": [second, first]}])
    assert [group["params"] for group in optimizer.param_groups] == [[first], [second]]


def test_a_schedule_begins_again():
    optimizer = adam([weight(0)], [weight(1)])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1]
    restart(schedule, [0.4, 0.8])
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        assert schedule.get_last_lr() == seen[-1]
        optimizer.step()
        schedule.step()
    assert seen == [[0.4, 0.8], [0.4, 0.8], [0.2, 0.4], [0.2, 0.4]]
    assert [group["initial_lr"] for group in optimizer.param_groups] == schedule.base_lrs == [0.4, 0.8]
