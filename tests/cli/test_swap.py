"""`lightning_zoo swap`: which clips are paired, and what a judge sees in what was made."""

import json

import pytest
import torch
from video_checkpoints import DIGITS, TINY, checkpoint, write_walkers
from video_toy import moving_squares, shaken

from datamodules import MovingMNIST, Weizmann
from lightning_zoo import StaticsDynamics, VideoClassifier
from lightning_zoo.checkpoints import CheckpointError, load
from lightning_zoo.cli.clip_pairs import paired, pairs_of
from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.swap import rows_of, swap, swapped
from lightning_zoo.cli.swap_judge import Share, judged, lines_of, load_judge
from lightning_zoo.cli.video_data import ClipFacts


@pytest.fixture(scope="module")
def decomposition(tmp_path_factory):
    torch.manual_seed(0)
    return checkpoint(tmp_path_factory.mktemp("own") / "last.ckpt", shaken(StaticsDynamics(**TINY)))


@pytest.fixture(scope="module")
def walkers(tmp_path_factory):
    """Arguments of Weizmann with two clips per video; daria is tested."""
    return write_walkers(tmp_path_factory.mktemp("weizmann"), frames=18)


def facts(videos, labels=None, actors=None):
    known = (None if values is None else torch.tensor(values) for values in (labels, None, actors))
    return ClipFacts([], torch.tensor(videos), *known)


def test_no_clip_is_swapped_with_its_own_video(walkers):
    data = Weizmann(**walkers)
    pairs, known = pairs_of(data, "test", 2, 0, "--num_clips")
    assert sorted(pairs.flatten().tolist()) == [0, 1, 2, 3], "two clips of each of two videos"
    assert (known.videos[pairs[:, 0]] != known.videos[pairs[:, 1]]).all()
    [(first, second)], known = pairs_of(data, "test", 1, 0, "--num_clips")
    assert known.videos[first] != known.videos[second]


def test_both_halves_of_a_pair_are_as_different_as_can_be():
    known = facts([0, 0, 1, 1, 2, 2, 3, 3], labels=[0, 0, 0, 0, 1, 1, 1, 1], actors=[0, 0, 1, 1, 0, 0, 1, 1])
    pairs = paired(known, 4, 0)
    assert sorted(pairs.flatten().tolist()) == list(range(8))
    assert (known.labels[pairs[:, 0]] != known.labels[pairs[:, 1]]).all()
    assert (known.actors[pairs[:, 0]] != known.actors[pairs[:, 1]]).all()


@pytest.mark.parametrize(("videos", "most"), [([0, 0, 0, 1, 2, 3], 3), ([0, 0, 0, 0, 1], 1), ([0, 1, 2], 1)])
def test_as_many_pairs_as_there_are(videos, most):
    for seed in range(5):
        known = facts(videos)
        pairs = paired(known, 10, seed)
        assert len(pairs) == most
        assert len(set(pairs.flatten().tolist())) == 2 * most
        assert (known.videos[pairs[:, 0]] != known.videos[pairs[:, 1]]).all()


def test_pairs_are_a_matter_of_the_seed():
    known = facts(list(range(40)))
    assert torch.equal(paired(known, 20, 3), paired(known, 20, 3))
    assert not torch.equal(paired(known, 20, 3), paired(known, 20, 4))


@pytest.mark.parametrize(("number", "rows"), [(15, 7), (3, 1)])
def test_an_odd_number_of_clips_leaves_one_out(decomposition, tmp_path, number, rows, capsys):
    path = checkpoint(tmp_path / "odd.ckpt", load(decomposition), **DIGITS | {"num_test": number})
    swap(str(path), num_clips=8, output=str(tmp_path / "s.png"), device="cpu")
    assert f"The test split has clips for {rows} swaps." in capsys.readouterr().err
    assert (tmp_path / "s.png").is_file()


def test_one_clip_and_one_video_are_told(decomposition, walkers, tmp_path):
    path = checkpoint(tmp_path / "one.ckpt", load(decomposition), **DIGITS | {"num_test": 1})
    with pytest.raises(UsageError, match="--num_clips 6: the test split has 1 clip, a swap takes two"):
        swap(str(path), output=str(tmp_path / "s.png"), device="cpu")
    folder = tmp_path / "alone"
    arguments = write_walkers(folder, ["daria_walk", "lena_walk1", "shahar_walk"], frames=18)
    with pytest.raises(UsageError, match="--num_clips 2: all 2 clips of the test split are of one video"):
        pairs_of(Weizmann(**arguments), "test", 2, 0, "--num_clips")


class _Mixes:
    device = "cpu"

    def swap(self, first, second):
        return (2 * first.float() + second) / 765


def test_the_picture_has_what_was_made_in_its_third_row():
    first, second = moving_squares(3, seed=1), moving_squares(3, seed=2)
    rows = rows_of(first, second, swapped(_Mixes(), first, second, 2))
    for pair in range(3):
        assert torch.equal(rows[3 * pair], first[pair])
        assert torch.equal(rows[3 * pair + 1], second[pair])
        torch.testing.assert_close(rows[3 * pair + 2], (2 * first[pair].float() + second[pair]) / 765)


class _Sees(torch.nn.Module):
    """Reads the class from the brightness of a clip; swapped clips are as bright as their first one."""

    def __init__(self, *names):
        super().__init__()
        self.hparams = {"class_names": list(names)}
        self.device = "cpu"

    def swap(self, first, second):
        return first.float() / 255

    def class_logits(self, clips):
        values = clips.float() if clips.dtype == torch.uint8 else clips * 255
        return torch.nn.functional.one_hot(values.flatten(1).mean(1).round().long(), 4).float()


class _Bright:
    class_names = ("dark", "grey", "light", "white")
    labels = (0, 1, 2, 2, 3, 1)

    def prepare_data(self):
        pass

    def setup(self, stage):
        pass

    def test_dataloader(self):
        labels = torch.tensor(self.labels)
        clips = labels.to(torch.uint8)[:, None, None, None, None].expand(-1, 8, 1, 4, 4)
        yield {"clips": clips, "labels": labels, "videos": torch.arange(len(labels))}

    def on_after_batch_transfer(self, batch, index):
        return batch


def test_a_judge_sees_the_class_of_the_clip_that_shows():
    found = judged(_Sees(), _Sees(*_Bright.class_names), "judge", _Bright(), "test", 3, 2, 0)
    assert found.number == 3
    assert found.shares == {"statics": (1, 1, 1), "dynamics": (0, 0, 0), "unswapped": (1, 1, 1)}
    assert isinstance(found.shares["statics"], Share)
    assert [line.split()[-4] for line in lines_of(found)[1:]] == ["100.0%", "0.0%", "100.0%"]


def test_pairs_of_one_class_are_left_out(monkeypatch):
    monkeypatch.setattr(_Bright, "labels", (2, 2, 2, 2, 2, 1))
    assert judged(_Sees(), _Sees(*_Bright.class_names), "judge", _Bright(), "test", 3, 2, 0).number == 1
    monkeypatch.setattr(_Bright, "labels", (2, 2, 2, 2, 2, 2))
    with pytest.raises(UsageError, match="--num_judged 3: no two of the test clips drawn are of two classes; raise it"):
        judged(_Sees(), _Sees(*_Bright.class_names), "judge", _Bright(), "test", 3, 2, 0)


def test_a_judge_of_other_classes_is_told():
    with pytest.raises(UsageError, match=r"--judge j knows 2 classes \(a, b, ...\), _Bright has 4 \(dark, grey, light"):
        judged(_Sees(), _Sees("a", "b"), "j", _Bright(), "test", 3, 2, 0)


def test_a_judge_of_other_clips_or_of_another_kind_is_told(decomposition, tmp_path):
    model = load(decomposition)
    names = MovingMNIST().class_names
    small = checkpoint(tmp_path / "small.ckpt", VideoClassifier(class_names=names, base_channels=2, frame_size=32))
    with pytest.raises(UsageError, match="--judge .*small.ckpt takes clips of 8x1x32x32 .* those made"):
        load_judge(small, "cpu", model)
    short = checkpoint(tmp_path / "short.ckpt", VideoClassifier(class_names=names, base_channels=2, num_frames=4))
    with pytest.raises(UsageError, match="--judge .*short.ckpt takes clips of 4x1x64x64"):
        load_judge(short, "cpu", model)
    with pytest.raises(CheckpointError, match="^--judge: .*StaticsDynamics.* cannot judge: .* VideoClassifier$"):
        load_judge(decomposition, "cpu", model)


def test_what_the_judge_says_is_written_down(zoo, project, monkeypatch, capsys):
    logged = []
    monkeypatch.setattr(
        "lightning_zoo.callbacks.mlflow_store.log_to_run",
        lambda run, values, files: logged.append((run, values, [file.name for file in files])) is None,
    )
    torch.manual_seed(2)
    own, other = (project / "runs" / name / "version_0" / "checkpoints" / "last.ckpt" for name in ("own", "judge"))
    checkpoint(own, shaken(StaticsDynamics(**TINY)))
    (own.parents[1] / "mlflow_run_id").write_text("abc\n")
    checkpoint(other, VideoClassifier(class_names=MovingMNIST().class_names, base_channels=2))
    words = ("--num_clips", "2", "--judge", "last", "--num_judged", "6", "--device", "cpu")
    assert zoo("swap", "--ckpt_path", str(own), *words) == 0
    assert "class of the statics' clip" in capsys.readouterr().out
    [(name, entry)] = json.loads((own.parents[1] / "pictures" / "swap_test.json").read_text()).items()
    assert name.startswith("last_test_judged_by_runs/judge/")
    assert entry["num_judged"] == 6
    assert entry["split"] == "test"
    row = entry["rows"]["statics"]
    assert 0 <= row["low"] <= row["share"] <= row["high"] <= 1
    run, values, files = logged[-1]
    assert run == "abc"
    assert values.keys() == {"swap/test/statics", "swap/test/dynamics", "swap/test/unswapped"}
    assert values["swap/test/statics"] == row["share"]
    assert files == ["swap_test.json"]
