"""`lightning_zoo probe` on small real frames: what it prints, what it writes, what it refuses."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

FOREIGN = '''
import lightning as L
from torch import nn

from lightning_zoo.checkpoints import Loadable


class Pooled(Loadable, L.LightningModule):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d((15, 16))

    def encode(self, frames):
        return self.pool(frames.float() / 255).flatten(1)


class Silent(Loadable, L.LightningModule):
    """Has no `encode`."""
'''

FRAMES = 800
EPOCHS = ["--max_epochs", "2", "--device", "cpu"]


@pytest.fixture
def save(project, tiny_atari):
    """Write a checkpoint as a run of `lightning_zoo fit` on tiny frames would; its path."""
    import lightning
    import torch

    (project / "foreign.py").write_text(FOREIGN)

    def write(module, **data):
        checkpoint = {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "epoch": 1,
            "global_step": 2,
            "pytorch-lightning_version": lightning.__version__,
        }
        if data:
            checkpoint["datamodule_hyper_parameters"] = dict(tiny_atari(**data).hparams)
        module.on_save_checkpoint(checkpoint)
        path = project / "runs" / "toy_pong" / "version_0" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)
        return path

    return write


@pytest.fixture
def pooled(save):
    from foreign import Pooled

    return save(Pooled(), game="pong")


@pytest.fixture
def majority(save, tiny_atari):
    import torch

    from lightning_zoo.representation.majority import Majority

    data = tiny_atari(serve="labelled")
    data.setup()
    module = Majority(variables=data.variables, categories=data.categories)
    module.count(torch.from_numpy(data.labelled["train"].labels))
    return save(module, game="pong", serve="labelled"), data


def written(checkpoint, name):
    return json.loads((checkpoint.parents[1] / name).read_text())


def row(output, name):
    """The cells of the row that starts with `name`."""
    line = next(line for line in output.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


def one_error(captured):
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_the_table_and_the_file(zoo, pooled, capsys):
    assert zoo("probe", "--ckpt_path", "last", "--baselines", "--per_variable", *EPOCHS) == 0
    output = capsys.readouterr().out
    result = written(pooled, "probe_last_pong_clean_epochs2.json")
    methods = [score["method"] for score in result["scores"]]
    assert methods == ["Pooled", "RandomCNN", "Majority"]
    own, untrained, _ = result["scores"]
    ball = [own["per_variable"][name]["f1"] for name in ("ball_x", "ball_y")]
    assert row(output, "small object localization")[0] == f"{sum(ball) / 2:.3f}"
    categories = own["f1_per_category"].values()
    mean = sum(categories) / len(categories)
    assert row(output, "mean over categories") == [
        f"{mean:.3f}",
        "-",
        f"{untrained['f1']:.3f}",
        "0.17",
        f"{result['scores'][2]['f1']:.3f}",
        "0.10",
    ]
    assert row(output, "accuracy, mean")[1:4:2] == ["-", "0.26"]
    player = own["per_variable"]["player_y"]
    assert row(output, "player_y") == [
        "agent localization",
        f"{player['f1']:.3f}",
        "-",
        f"{player['accuracy']:.3f}",
        f"{player['mean_absolute_error']:.2f}",
    ]
    for said in ("best weights", "each once", "Pooled: nothing published", "clean protocol"):
        assert said in output
    assert "published, unlike here: paper protocol, 100,000 frames, 50,000 labelled frames\n" in output
    assert f"Pooled on pong: mean F1 {mean:.3f}\n" in output
    assert "it/s" not in output, "no bars outside a terminal"


def test_the_protocol_can_be_chosen(zoo, pooled, capsys):
    words = ["--test_weights", "last", "--sampling", "episode", "--test_sampling", "with_replacement", "--seed", "3"]
    assert zoo("probe", "--ckpt_path", str(pooled), *words, *EPOCHS) == 0
    output = capsys.readouterr().out
    for said in ("last weights", "drawn by episode", "drawn with replacement"):
        assert said in output
    name = "probe_last_pong_clean_sampling-episode_test-with_replacement_weights-last_seed3_epochs2.json"
    assert written(pooled, name)["scores"][0]["details"]["seed"] == 3


def test_nothing_is_written_unless_wanted(zoo, pooled):
    assert zoo("probe", "--ckpt_path", "last", "--log", "false", *EPOCHS) == 0
    assert not list(pooled.parents[1].glob("probe_*"))


def test_scores_arrive_in_the_run_of_the_checkpoint(zoo, pooled, project):
    from mlflow.tracking import MlflowClient

    from lightning_zoo.callbacks.mlflow_store import default_uri

    run = MlflowClient(default_uri()).create_run("0").info.run_id
    (pooled.parents[1] / "mlflow_run_id").write_text(run)
    words = ["probe", "--ckpt_path", "last", "--device", "cpu", "--max_epochs"]
    assert zoo(*words, "100", "--num_probe_frames", "400") == 0
    assert zoo(*words, "1", "--game", "boxing") == 0
    with closing(sqlite3.connect(project / "mlflow.db")) as base:
        logged = dict(base.execute("select key, value from metrics where run_uuid = ?", [run]).fetchall())
    here = written(pooled, "probe_last_pong_clean_frames400.json")["scores"][0]
    there = written(pooled, "probe_last_boxing_clean_epochs1.json")["scores"][0]
    assert logged["probe/frames400/f1"] == pytest.approx(here["f1"])
    assert logged["probe/boxing_epochs1/f1"] == pytest.approx(there["f1"])
    accuracy = there["per_variable"]["player_x"]["accuracy"]
    assert logged["probe/boxing_epochs1/variables/player_x/accuracy"] == pytest.approx(accuracy)


def test_a_classifier_is_scored_without_probes(zoo, majority, capsys):
    checkpoint, data = majority
    assert zoo("probe", "--ckpt_path", "last", "--max_epochs", "3", "--device", "cpu") == 0
    assert "Majority names the variables' values itself" in capsys.readouterr().out
    found = written(checkpoint, "probe_last_pong_clean.json")["scores"][0]["per_variable"]
    train, test = data.labelled["train"].labels, data.labelled["test"].labels
    for place, name in enumerate(data.variables):
        values = list(train[:, place])
        most = max(sorted(set(values)), key=values.count)
        assert found[name]["accuracy"] == pytest.approx((test[:, place] == most).mean())


def test_supervised_encoders_are_scored_themselves(zoo, save, tiny_atari):
    from lightning_zoo.representation.supervised import Supervised

    data = tiny_atari(serve="labelled")
    data.setup()
    module = Supervised(variables=data.variables, categories=data.categories, feature_size=4)
    checkpoint = save(module, game="pong", serve="labelled")
    assert zoo("probe", "--ckpt_path", "last", "--test_sampling", "with_replacement", "--device", "cpu") == 0
    score = written(checkpoint, "probe_last_pong_clean_test-with_replacement.json")["scores"][0]
    assert score["method"] == "Supervised"
    assert "epochs" not in score["details"]


@pytest.mark.parametrize(
    "words", [("--num_probe_frames", "400"), ("--preset", "paper"), ("--label_map", "head"), ("--game", "boxing")]
)
def test_a_classifier_is_never_scored_on_frames_it_learned(zoo, majority, capsys, words):
    folder = majority[0].parents[1]
    assert zoo("probe", "--ckpt_path", "last", *words) == 2
    assert words[0] in one_error(capsys.readouterr())
    assert not list(folder.glob("probe_*"))
    same = ["--preset", "clean", "--label_map", "paper", "--game", "Pong", "--num_probe_frames", str(FRAMES)]
    assert zoo("probe", "--ckpt_path", "last", "--device", "cpu", *same) == 0


def test_a_classifier_of_unknown_frames_is_refused(zoo, save, capsys):
    from lightning_zoo.representation.majority import Majority

    save(Majority(variables=["player_y"], categories={"player_y": []}))
    assert zoo("probe", "--ckpt_path", "last") == 2
    assert "does not say which frames" in one_error(capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max_epochs", "0"), "--max_epochs must be at least 1, got 0"),
        (("--seed", "-1"), "--seed must not be negative, got -1"),
        (("--num_probe_frames", "4"), "--num_probe_frames must be at least 8, got 4"),
        (("--num_probe_frames", "80"), "--num_probe_frames 80 leaves"),
        (("--game", "zaxxon"), "no labelled variables"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(zoo, pooled, capsys, recordings, words, message):
    assert zoo("probe", "--ckpt_path", "last", *words) == 2
    assert message in one_error(capsys.readouterr())
    assert not list(pooled.parents[1].glob("probe_*"))
    assert not list(recordings.glob("zaxxon*"))


def test_too_short_episodes_name_the_option_of_this_command(zoo, pooled, capsys):
    assert zoo("probe", "--ckpt_path", "last", "--num_probe_frames", "12") == 2
    line = one_error(capsys.readouterr())
    assert "--num_probe_frames" in line
    assert "--data.num" not in line


def test_a_gpu_that_is_not_there(zoo, pooled, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert zoo("probe", "--ckpt_path", "last", "--device", "cuda") == 2
    assert "--device cuda" in one_error(capsys.readouterr())


def test_checkpoints_that_cannot_be_probed(zoo, save, capsys):
    assert zoo("probe", "--ckpt_path", "last") == 2
    assert "train first" in one_error(capsys.readouterr())
    from foreign import Silent

    save(Silent(), game="pong")
    assert zoo("probe", "--ckpt_path", "last") == 2
    assert "Silent, which has no `encode(frames)`" in one_error(capsys.readouterr())


def test_an_ensemble_without_the_member_of_a_category(zoo, save, capsys):
    from lightning_zoo.representation.category_ensemble import CategoryEnsemble

    save(CategoryEnsemble(categories=["misc"], feature_size=4), game="pong")
    assert zoo("probe", "--ckpt_path", "last", *EPOCHS) == 2
    assert "only for misc" in one_error(capsys.readouterr())
