import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.index_batches import IndexBatches, epoch_generator, in_order, permutation


def batches(num_rows, **arguments):
    plan = arguments.pop("plan", in_order(num_rows))
    return IndexBatches(lambda items: {"items": items}, plan, num_rows, **arguments)


@given(num_rows=st.integers(1, 60), batch_size=st.integers(1, 9), world_size=st.integers(1, 3), drop_last=st.booleans())
def test_processes_share_the_rows_and_the_number_of_batches(num_rows, batch_size, world_size, drop_last):
    try:
        ranks = [
            batches(num_rows, batch_size=batch_size, drop_last=drop_last, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
    except ValueError:
        assert num_rows < world_size or (drop_last and num_rows < batch_size * world_size)
        return
    seen = [[batch["items"].tolist() for batch in loader] for loader in ranks]
    assert {len(loader) for loader in ranks} == {len(rows) for rows in seen}, "a process alone would wait for ever"
    assert all(rows for part in seen for rows in part)
    together = [item for step in zip(*seen, strict=True) for part in step for item in part]
    full = batch_size * world_size
    assert together == list(range(num_rows // full * full if drop_last else num_rows))


def test_two_processes_see_the_batches_of_one():
    one = [batch["items"] for batch in batches(64, batch_size=8, plan=permutation(64, 3))]
    two = [
        [batch["items"] for batch in batches(64, batch_size=4, plan=permutation(64, 3), rank=rank, world_size=2)]
        for rank in range(2)
    ]
    for whole, first, second in zip(one, *two, strict=True):
        torch.testing.assert_close(whole, torch.cat([first, second]))


@given(stop=st.integers(0, 6), epoch=st.integers(0, 3))
def test_resume_continues_with_the_next_batch(stop, epoch):
    def loader():
        made = batches(50, batch_size=8, plan=permutation(50, 1))
        made.sampler.set_epoch(epoch)
        return made

    whole = [batch["items"].tolist() for batch in loader()]
    first = loader()
    iterator = iter(first)
    seen = [next(iterator)["items"].tolist() for _ in range(stop)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + [batch["items"].tolist() for batch in second] == whole
    assert len(list(second)) == len(whole), "the epoch after is whole again"


def test_a_finished_epoch_leaves_nothing_to_skip():
    loader = batches(16, batch_size=8)
    list(loader)
    assert loader.state_dict() == {"batches": 0}


def test_epochs_differ_and_the_global_random_state_is_left_alone():
    plan = permutation(100, 0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert not torch.equal(plan(0), plan(1))
    assert torch.equal(plan(1), plan(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(plan(2).sort().values, torch.arange(100))
    draws = {torch.rand(1, generator=epoch_generator(seed, epoch)).item() for seed in range(5) for epoch in range(5)}
    assert len(draws) == 25


def test_too_few_rows_are_named():
    with pytest.raises(ValueError, match="batch_size=8 on 2 processes exceeds the 10 rows"):
        batches(10, batch_size=8, drop_last=True, world_size=2)
