"""Verdicts on videos against loops over them, in one process and in two."""

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed as dist

from lightning_zoo.metrics.video_votes import VideoAccuracy, labels_by_video, mean_by_video, share_right

VIDEOS = torch.tensor([9, 4, 9, 9, 2, 4, 7])
LABELS = torch.tensor([1, 0, 1, 1, 1, 0, 2])


def logits(seed=0):
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(seed))


def slow_answers(values, videos):
    found = {}
    for video in sorted(set(videos.tolist())):
        rows = [row for row, own in zip(values, videos.tolist(), strict=True) if own == video]
        found[video] = sum(rows) / len(rows)
    return found


def test_means_and_their_gradients_video_by_video():
    values = logits().requires_grad_()
    means, numbers = mean_by_video(values, VIDEOS)
    slow = slow_answers(values, VIDEOS)
    assert numbers.tolist() == list(slow) == [2, 4, 7, 9]
    torch.testing.assert_close(means, torch.stack(list(slow.values())))
    weights = logits(1)[:4]
    (found,) = torch.autograd.grad((means * weights).sum(), values)
    (wanted,) = torch.autograd.grad((torch.stack(list(slow.values())) * weights).sum(), values)
    torch.testing.assert_close(found, wanted)
    assert labels_by_video(LABELS, VIDEOS).tolist() == [1, 0, 2, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_shares_class_by_class(pairs):
    answers, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    accuracy, balanced = share_right(answers, labels)
    assert accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    classes = {label for _, label in pairs}
    recalls = [sum(a == b == c for a, b in pairs) / sum(b == c for _, b in pairs) for c in classes]
    assert balanced == pytest.approx(sum(recalls) / len(classes))


def expected(values):
    slow = slow_answers(values, VIDEOS)
    right = [slow[video].argmax().item() == label for video, label in ((2, 1), (4, 0), (7, 2), (9, 1))]
    return sum(right) / 4, ((right[0] + right[3]) / 2 + right[1] + right[2]) / 3


def test_clips_of_a_video_may_come_in_any_batch():
    seen = set()
    for seed in range(8):
        metric, values = VideoAccuracy(), logits(seed)
        for rows in ([0, 1], [2, 3, 4], [5, 6]):
            metric.update(values[rows], LABELS[rows], VIDEOS[rows])
        found = {name: value.item() for name, value in metric.compute().items()}
        accuracy, balanced = expected(values)
        assert found == {
            "video_accuracy": pytest.approx(accuracy),
            "video_balanced_accuracy": pytest.approx(balanced),
        }
        seen.add(accuracy)
    assert len(seen) > 1


def _of_a_process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = VideoAccuracy()
    # Three clips and four; the clips of a video are with both.
    for rows in (([0, 1], [2]), ([3, 4, 5], [6]))[rank]:
        metric.update(logits(3)[rows], LABELS[rows], VIDEOS[rows])
    found = metric.compute()
    torch.save(torch.stack(list(found.values())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_count_what_one_does(tmp_path):
    mp.start_processes(_of_a_process, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt").tolist() == pytest.approx(list(expected(logits(3))))
