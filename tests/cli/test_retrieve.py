"""`lightning_zoo retrieve`: who may answer whom, by which features and metric, and which clips are shown."""

import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from video_checkpoints import DIGITS, TINY, checkpoint, write_walkers
from video_files import noise, write_video
from video_toy import shaken

from datamodules import ClipFolder, MovingMNIST, Weizmann
from lightning_zoo import BlockSTN, StaticsDynamics, VideoAutoencoder, VideoClassifier
from lightning_zoo.checkpoints import CheckpointError, load
from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.main import main
from lightning_zoo.cli.retrieval import shown_queries
from lightning_zoo.cli.retrieval_report import published_column, published_distances, table_of
from lightning_zoo.cli.retrieve import retrieve
from lightning_zoo.cli.video_data import difference, facts_of
from lightning_zoo.metrics.keypoint_displacement import DistanceRow, displacement_distance


@pytest.fixture(scope="module")
def decomposition(tmp_path_factory):
    torch.manual_seed(0)
    return checkpoint(tmp_path_factory.mktemp("own") / "last.ckpt", shaken(StaticsDynamics(**TINY)))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    torch.manual_seed(1)
    module = shaken(VideoAutoencoder(base_channels=2, feature_size=4))
    return checkpoint(tmp_path_factory.mktemp("baseline") / "last.ckpt", module)


@pytest.fixture(scope="module")
def walkers(tmp_path_factory):
    """Three actors; daria is tested, the others are trained on."""
    folder = tmp_path_factory.mktemp("weizmann")
    arguments = write_walkers(folder) | {"val_actors": []}
    torch.manual_seed(0)
    module = shaken(VideoAutoencoder(base_channels=2, feature_size=6, frame_channels=3))
    return checkpoint(folder / "last.ckpt", module, "Weizmann", **arguments), arguments


def entries(file):
    return json.loads(file.with_suffix(".json").read_text())


def test_the_nearest_of_the_training_clips_are_found(decomposition, autoencoder, tmp_path, capsys):
    file = tmp_path / "found.png"
    retrieve([str(decomposition), str(autoencoder)], output=str(file), num_shown=2, device="cpu")
    printed = capsys.readouterr().out
    assert "Displacement in pixels, moving_digits8x8, test -> train" in printed
    assert "D: size of the features; those of the thesis' table are of one size." in printed
    [entry] = entries(file).values()
    assert list(entry["rows"]) == ["random", "StaticsDynamics, dynamics", "VideoAutoencoder, features", "oracle"]
    assert [each["size"] for each in entry["methods"].values()] == [6, 4]
    assert all(entry["rows"]["oracle"]["mean"] <= row["mean"] for row in entry["rows"].values())
    assert (entry["num_queries"], entry["num_database"]) == (16, 24)
    assert file.with_suffix(".mp4").stat().st_size > 1000


@pytest.mark.parametrize("metric", ["zscored_l2", "cosine"])
def test_what_is_shown_is_nearest_by_the_metric(decomposition, metric, tmp_path, capsys):
    file = tmp_path / "found.png"
    retrieve([str(decomposition)], output=str(file), num_shown=16, metric=metric, device="cpu")
    [entry] = entries(file).values()
    model, data = load(decomposition), MovingMNIST(**DIGITS)
    asked, searched = (facts_of([model], ["dynamics"], data, split, None) for split in ("test", "train"))
    (ours,), (theirs,) = (facts.features for facts in (asked, searched))
    if metric == "zscored_l2":
        mean, spread = theirs.mean(0), theirs.std(0, correction=0)
        apart = torch.cdist((ours - mean) / spread, (theirs - mean) / spread)
    else:
        apart = 1 - torch.cosine_similarity(ours[:, None], theirs[None], dim=2)
    nearest = apart.argmin(1)
    random = entry["rows"]["random"]["mean"]
    assert 60 < random < 80, "of two digits, summed over both and all steps"
    for row, pair in enumerate(entry["shown"]):
        clip = int(nearest[row])
        assert pair["query"] == {"clip": row, "class": data.class_names[int(asked.labels[row])]}
        assert pair["retrieved"] == {"clip": clip, "class": data.class_names[int(searched.labels[clip])]}
        assert pair["feature_distance"] == pytest.approx(apart[row, clip].item(), rel=1e-3, abs=1e-6)
        keypoints = asked.keypoints[row : row + 1], searched.keypoints[clip : clip + 1]
        wanted = displacement_distance(*keypoints, reduction="sum", unordered=True).item()
        assert pair["displacement"] == pytest.approx(wanted)


def test_each_metric_has_an_entry_and_a_name_in_the_run(decomposition, autoencoder, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "lightning_zoo.callbacks.mlflow_store.log_to_run",
        lambda run, values, files: logged.append(values) is None,
    )
    path = tmp_path / "last.ckpt"
    path.write_bytes(decomposition.read_bytes())
    (tmp_path / "mlflow_run_id").write_text("abc\n")
    words = {"output": str(tmp_path / "found.png"), "num_shown": 1, "device": "cpu"}
    for metric in ("zscored_l2", "cosine"):
        retrieve([str(path)], metric=metric, **words)
    retrieve([str(path)], by="statics", **words)
    retrieve([str(path), str(autoencoder)], **words)
    found = entries(tmp_path / "found.png")
    assert len(found) == 4
    assert {name.partition(":")[0] for name in found} == {"test_in_train_zscored_l2", "test_in_train_cosine"}
    names = [name for values in logged for name in values if "StaticsDynamics" in name]
    assert names == [
        "retrieve/test_in_train_zscored_l2/StaticsDynamics, dynamics",
        "retrieve/test_in_train_cosine/StaticsDynamics, dynamics",
        "retrieve/test_in_train_zscored_l2/StaticsDynamics, statics",
        "retrieve/test_in_train_zscored_l2/StaticsDynamics, dynamics",
    ]


def test_a_query_in_its_own_split_is_not_answered_by_itself(decomposition, tmp_path):
    file = tmp_path / "found.png"
    words = {"queries": "test", "database": "test", "by": "statics", "device": "cpu", "num_shown": 16}
    retrieve([str(decomposition)], output=str(file), **words)
    [entry] = entries(file).values()
    assert entry["rows"]["oracle"]["mean"] > 0
    assert "StaticsDynamics, statics" in entry["rows"]
    assert all(pair["query"]["clip"] != pair["retrieved"]["clip"] for pair in entry["shown"])


def test_nobody_answers_for_himself(walkers, tmp_path):
    file = tmp_path / "found.png"
    retrieve([str(walkers[0])], queries="train", database="train", num_shown=15, output=str(file), device="cpu")
    [entry] = entries(file).values()
    seen = [tuple(pair[side]["video"].partition("_")[0] for side in ("query", "retrieved")) for pair in entry["shown"]]
    assert set(seen) == {("lena", "shahar"), ("shahar", "lena")}
    assert len(seen) == 15


def test_clips_that_two_splits_share_do_not_answer_themselves(tmp_path):
    for split, number in (("train", 2), ("val", 3)):
        for video in range(number):
            frames = noise(17, 32, 32, seed=video + 10 * number)
            write_video(tmp_path / "own" / split / f"{video}.avi", frames)
    torch.manual_seed(0)
    module = shaken(VideoAutoencoder(base_channels=2, feature_size=6, frame_channels=3, frame_size=32))
    arguments = {"root": str(tmp_path / "own"), "image_size": 32, "batch_size": 2}
    path = checkpoint(tmp_path / "last.ckpt", module, "ClipFolder", **arguments)
    file = tmp_path / "found.png"
    retrieve([str(path)], queries="test", database="val", num_shown=6, output=str(file), device="cpu")
    [entry] = entries(file).values()
    assert len(entry["shown"]) == 6
    assert entry["rows"] == {}
    assert all(pair["displacement"] is None for pair in entry["shown"])
    assert all(pair["query"]["video"] != pair["retrieved"]["video"] for pair in entry["shown"])


def test_clips_are_named_by_row_or_by_video(walkers, tmp_path, capsys):
    file = tmp_path / "found.png"
    words = ["--clips", "daria_walk", "1", "--output", str(file), "--device", "cpu"]
    main(["retrieve", f"--ckpt_path={walkers[0]}", *words])
    [entry] = entries(file).values()
    asked = [pair["query"] for pair in entry["shown"]]
    assert asked == [
        {"clip": 3, "video": "daria_walk", "class": "walk"},
        {"clip": 1, "video": "daria_run", "class": "run"},
    ]
    assert "3, daria_walk, walk" in capsys.readouterr().out


def test_clips_shown_are_of_different_videos_first(walkers):
    data = Weizmann(**walkers[1])
    asked = facts_of([], [], data, "test", None)
    assert asked.videos.tolist() == [0, 0, 0, 1, 1, 1]
    assert shown_queries(data, asked, None, 2) == [0, 3]
    assert shown_queries(data, asked, None, 4) == [0, 3, 1, 2]
    assert shown_queries(data, asked, None, 9) == [0, 3, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("daria_wolk", "--clips daria_wolk: no query is of such a video. Did you mean 'daria_walk'?"),
        ("lena_walk1", "--clips lena_walk1: no query is of such a video."),
        ("6", "--clips 6: the queries are clips 0 to 5; see --num_queries"),
    ],
)
def test_clips_that_are_no_queries_are_told(walkers, tmp_path, clip, message):
    with pytest.raises(UsageError) as told:
        retrieve([str(walkers[0])], clips=[clip], output=str(tmp_path / "a.png"), device="cpu")
    assert str(told.value).startswith(message)


def test_drawn_clips_have_no_names(decomposition, tmp_path):
    with pytest.raises(UsageError, match="--clips one: the queries are clips 0 to 15, and their videos have no names"):
        retrieve([str(decomposition)], clips=["one"], output=str(tmp_path / "a.png"), device="cpu")


def test_mistakes_are_one_line(decomposition, autoencoder, tmp_path):
    with pytest.raises(
        CheckpointError, match="BlockSTN, which cannot retrieve: .* StaticsDynamics, VideoClassifier or"
    ):
        retrieve([str(checkpoint(tmp_path / "stn.ckpt", BlockSTN(channels=4)))], device="cpu")
    with pytest.raises(UsageError, match="--output .*name a PNG file"):
        retrieve([str(decomposition)], output=f"{tmp_path}/", device="cpu")
    for by in ("statics", "dynamics"):
        with pytest.raises(UsageError, match=f"--by {by}: .* holds VideoAutoencoder, which has features: leave"):
            retrieve([str(decomposition), str(autoencoder)], by=by, output=str(tmp_path / "a.png"), device="cpu")
    large = checkpoint(tmp_path / "large.ckpt", VideoAutoencoder(base_channels=2, frame_size=32))
    with pytest.raises(UsageError, match="takes clips of another shape than"):
        retrieve([str(decomposition), str(large)], output=str(tmp_path / "a.png"), device="cpu")
    with pytest.raises(UsageError, match="--clips: none is given"):
        retrieve([str(decomposition)], clips=[], device="cpu")


def test_methods_that_had_other_data_are_not_compared(walkers, tmp_path):
    path, arguments = walkers
    model = load(path)
    other = checkpoint(tmp_path / "other.ckpt", model, "Weizmann", **arguments | {"fold": 5})
    with pytest.raises(
        UsageError, match=r"last.ckpt and .*other.ckpt had other data \(held out daria and lena\); compare"
    ):
        retrieve([str(path), str(other)], output=str(tmp_path / "a.png"), device="cpu")
    same = checkpoint(tmp_path / "same.ckpt", model, "Weizmann", **arguments | {"fold": 1 - 1, "batch_size": 2})
    retrieve([str(path), str(same)], output=str(tmp_path / "a.png"), num_shown=1, device="cpu")


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (MovingMNIST(), MovingMNIST(digits="digits8x8"), "digits mnist and digits8x8"),
        (MovingMNIST(), MovingMNIST(rule="B"), "rule A and B"),
        (MovingMNIST(), MovingMNIST(seed=1, num_train=5), None),
        (MovingMNIST(), Weizmann(), "MovingMNIST and Weizmann"),
        (Weizmann(), Weizmann(crop="center"), "crop person and center"),
        (Weizmann(val_actors=[]), Weizmann(), "held out daria and daria (validation shahar)"),
        (Weizmann(), Weizmann(fold=0, root="elsewhere"), None),
        (ClipFolder(), ClipFolder(root="elsewhere"), "held out videos of data/clip_folder, drawn with seed 42"),
    ],
)
def test_what_makes_data_different(first, second, told):
    found = difference(first, second)
    assert found == told if told is None else found.startswith(told)


def test_people_may_be_others_where_that_is_meant():
    assert difference(Weizmann(fold=1), Weizmann(fold=2), people=False) is None
    assert difference(Weizmann(fold=1), Weizmann(fold=2, crop="center"), people=False) is not None


def test_published_figures_stand_beside_published_data_alone():
    assert published_distances(MovingMNIST())["ours"] == 24
    assert published_distances(MovingMNIST(digits="digits8x8")) == {}


@pytest.mark.parametrize(
    ("model", "feature", "column"),
    [
        (StaticsDynamics, "dynamics", "ours"),
        (StaticsDynamics, "statics", None),
        (VideoAutoencoder, "features", "reconstruction"),
    ],
)
def test_published_figures_stand_beside_what_they_measure(model, feature, column):
    assert published_column(model.__new__(model), feature) == column


@pytest.mark.parametrize(("head", "column"), [("features", "classification"), ("pooled", None)])
def test_a_classifier_with_pooled_features_was_not_published(head, column):
    assert published_column(VideoClassifier(class_names=["a", "b"], base_channels=2, head=head), "features") == column


@pytest.mark.parametrize("by", ["dynamics", "statics"])
def test_the_published_column(decomposition, by, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_zoo.cli.retrieval_report.published_distances", lambda data: {"ours": 24.5})
    file = str(tmp_path / "a.png")
    retrieve([str(decomposition)], by=by, published=True, num_shown=1, output=file, device="cpu")
    line = next(line for line in capsys.readouterr().out.splitlines() if f"StaticsDynamics, {by}" in line)
    assert line.split()[-1] == ("24.5" if by == "dynamics" else "-")


def test_the_table_fits_into_eighty_columns():
    row = DistanceRow(61.23, 60.01, 62.34, 1000, torch.zeros(0))
    names = ["random", "StaticsDynamics, dynamics", "VideoAutoencoder, features", "oracle"]
    table = table_of(
        dict.fromkeys(names, row),
        {names[1]: 512},
        {names[1]: 24},
        "Displacement in pixels, moving_digits8x8, test -> train",
    )
    console = Console(width=80, record=True, file=SimpleNamespace(write=lambda text: None, flush=lambda: None))
    console.print(table)
    lines = console.export_text().splitlines()
    assert "Displacement in pixels, moving_digits8x8, test -> train" in lines[0]
    assert any("VideoAutoencoder, features" in line and "61.23" in line for line in lines)
