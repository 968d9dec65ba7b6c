"""`attention`, and `traverse` of methods that draw by attributes: what they draw, print, write and refuse."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_zoo.cli.sample import attribute_rows
from lightning_zoo.metrics.attention_table import as_text


@pytest.fixture
def run(project, conditional_toy):
    """The toy as the last checkpoint of a run, images wide enough for labels; its path and the module."""
    folder = project / "runs" / "toy" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    module = conditional_toy.ConditionalToy(size=48).eval()
    with torch.no_grad():
        module.latent_weights.mul_(0.1)
    path = conditional_toy.save(module, folder).rename(folder / "last.ckpt")
    return path, module


@pytest.fixture
def seeing(project):
    """A checkpoint of a classifier that sees the toy's attributes, of the toy's size and in another order."""
    (project / "seeing_toy.py").write_text(
        "import lightning as L, torch\n"
        "from lightning_zoo.checkpoints import Loadable\n"
        "class Seeing(Loadable, L.LightningModule):\n"
        "    def __init__(self, *, names=('Young', 'Smiling', 'Male', 'Eyeglasses', 'Bald'), side=48):\n"
        "        super().__init__()\n"
        "        self.save_hyperparameters()\n"
        "        self.attribute_names, self.image_shape = tuple(names), (3, side, side)\n"
        "        self.weight = torch.nn.Parameter(torch.ones(()))\n"
        "    def logits(self, images):\n"
        "        assert images.shape[1:] == self.image_shape\n"
        "        lit = images.mean((1, 2))[:, : 5 * images.shape[2] // 24 : images.shape[2] // 24] - 0.5\n"
        "        return self.weight * lit.flip(1)\n"
    )

    def save(**arguments):
        import lightning
        from seeing_toy import Seeing

        module = Seeing(**arguments)
        checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        checkpoint["pytorch-lightning_version"] = lightning.__version__
        module.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, project / "seeing.ckpt")
        return "seeing.ckpt"

    import sys

    sys.modules.pop("seeing_toy", None)
    return save


def one_error(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def cell(file, row, column, size=48, header=14):
    pixels = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) / 255
    top, left = 2 + header + row * (size + 2), 2 + column * (size + 2)
    return pixels[:, top : top + size, left : left + size]


def shows(file, images):
    for row in range(images.shape[0]):
        for column in range(images.shape[1]):
            np.testing.assert_allclose(cell(file, row, column), images[row, column], atol=1 / 255)


def pictures_of(path):
    return path.parents[1] / "pictures"


def test_attention_prints_and_writes_the_table(zoo, run, capsys):
    path, module = run
    assert zoo("attention", "--ckpt_path", "last") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ConditionalToy from runs/toy/version_0/checkpoints/last.ckpt, 4 time steps, 5 attrib")
    assert "   1  Bald, Young" in lines
    assert ["Male", "3", "0.87"] in [line.split()[:3] for line in lines]
    folder = path.parents[1] / "attention"
    assert lines[-1].endswith("attention_last.png, attention_last.txt, attention_last.json and attention_last.csv")
    assert (
        (folder / "attention_last.txt").read_text().endswith(as_text(module.attention(), module.attribute_names) + "\n")
    )
    table = json.loads((folder / "attention_last.json").read_text())
    torch.testing.assert_close(torch.tensor(table["mask"]), module.attention().detach())
    assert (folder / "attention_last.csv").read_text().startswith("name,step,share,entropy,step_1")
    assert Image.open(folder / "attention_last.png").format == "PNG"


def test_attention_beside_the_published_table(zoo, run, project, capsys):
    assert zoo("attention", "--ckpt_path", "last", "--published", "--output", "here/map.png") == 0
    out = capsys.readouterr().out
    assert "Table 6.1" in out
    assert "It leaves out Sideburns, Wearing_Necklace, Young" in out
    row = next(line for line in out.splitlines() if line.startswith("   7  -"))
    assert row.endswith("Bald, Eyeglasses, Male, Narrow_Eyes")
    table = out.split("step  ours")[1].split("\n\n")[0].splitlines()
    assert len(table) >= 9
    assert max(map(len, table)) <= 120
    # Bald, Eyeglasses and Male are published at one step; ours has each elsewhere.
    assert "Of 3 pairs of attributes that the published table has at one step, ours has 0 at one step" in out
    assert sorted(file.name for file in (project / "here").iterdir()) == ["map.csv", "map.json", "map.png", "map.txt"]


def test_attention_goes_to_the_run_in_mlflow(zoo, run, project, capsys):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    store = MLflowStore()
    store.place("toy", run[0].parents[1])
    run_id = store.run_id
    store.finalize("success")
    assert zoo("attention", "--ckpt_path", "last", "--log", "false") == 0
    assert "MLflow" not in capsys.readouterr().out
    assert zoo("attention", "--ckpt_path", "last") == 0
    assert capsys.readouterr().out.endswith("and to its MLflow run\n")
    found = {file.name for file in (project / f"mlruns/toy/{run_id}/artifacts").iterdir()}
    assert found == {f"attention_last{ending}" for ending in (".png", ".txt", ".json", ".csv")}
    with closing(sqlite3.connect(project / "mlflow.db")) as base:
        assert base.execute("select count(*) from metrics").fetchone() == (0,)


def test_progressive_adds_blocks_with_their_attributes(zoo, run, capsys):
    from lightning_zoo.generative.conditional_traversal import progressive

    path, module = run
    assert zoo("traverse", "--ckpt_path", "last", "--num_images", "3", "--seed", "2", "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    asked = attribute_rows(module, [], 3, 2)
    for row in range(3):
        names = [name for name, value in zip(module.attribute_names, asked[row], strict=True) if value > 0]
        assert f"Row {row + 1}: {', '.join(names)}" in lines
    assert "  z1  Bald, Young" in lines
    assert " +z4  Smiling" in lines
    assert "Columns: 0, z1, +z2, +z3, +z4" in lines
    shows(pictures_of(path) / "traverse_progressive_seed2.png", progressive(module, asked, seed=2))


def test_content_moves_between_two_draws(zoo, run, capsys):
    from lightning_zoo.generative.conditional_traversal import content

    path, module = run
    words = ["--mode", "content", "--columns", "3", "--num_images", "2", "--attributes", "Smiling", "-Male"]
    assert zoo("traverse", "--ckpt_path", "last", *words, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert "Columns: 0 deg, 45 deg, 90 deg\n" in out
    asked = attribute_rows(module, ["Smiling", "-Male"], 2, 0)
    assert (asked[:, [3, 2]] == torch.tensor([1.0, -1])).all()
    shows(pictures_of(path) / "traverse_content_with_Smiling_-Male_seed0.png", content(module, asked, columns=3))


def test_interpolate_and_attribute(zoo, run, capsys):
    from lightning_zoo.generative.conditional_traversal import attribute_walk, interpolate

    path, module = run
    asked, words = attribute_rows(module, [], 2, 0), ["--columns", "3", "--num_images", "2", "--device", "cpu"]
    assert zoo("traverse", "--ckpt_path", "last", "--mode", "interpolate", "--step", "3", *words) == 0
    assert "Columns: 0.00, 0.50, 1.00\n" in capsys.readouterr().out
    shows(pictures_of(path) / "traverse_interpolate_step3_seed0.png", interpolate(module, asked, 3, columns=3))
    assert zoo("traverse", "--ckpt_path", "last", "--mode", "attribute", "--attribute", "male", *words) == 0
    assert "Columns: -1.00, +0.00, +1.00\n" in capsys.readouterr().out
    shows(pictures_of(path) / "traverse_attribute_male_seed0.png", attribute_walk(module, asked, 2, columns=3))


def test_content_without_attributes(zoo, project, generative_toy, conditional_toy):
    from lightning_zoo.generative.conditional_traversal import content

    folder = project / "runs" / "plain" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    module = generative_toy.LinearToy(size=48, channels=3).eval()
    path = conditional_toy.save(module, folder)
    words = ["--mode", "content", "--columns", "2", "--num_images", "2", "--device", "cpu"]
    assert zoo("traverse", "--ckpt_path", str(path), *words) == 0
    expected = content(module, num_rows=2, columns=2).clamp(0, 1)
    shows(pictures_of(path) / "traverse_content_seed0.png", expected)


@pytest.mark.parametrize("output", [None, "all/"])
def test_a_classifier_tells_when_attributes_appear(zoo, run, seeing, project, conditional_toy, capsys, output):
    path, module = run
    with torch.no_grad():  # each attribute at its one step, Young at all
        module.scores.mul_(7)
        module.latent_weights.mul_(1e-3)
    conditional_toy.save(module, path.parent).rename(path)
    words = ["--classifier", seeing(), "--num_judged", "48", "--num_images", "2", "--device", "cpu"]
    words += ["--output", output] if output else []
    assert zoo("traverse", "--ckpt_path", "last", *words) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()[-1:] == ["1.00"]}
    for step, name in enumerate(("Bald", "Eyeglasses", "Male", "Smiling"), start=1):
        assert rows[name][:2] == [str(step), str(step)], name
    assert "0.50 is chance" in out
    file = project / "all/emergence.json" if output else pictures_of(path) / "traverse_progressive_seed0.emergence.json"
    content = json.loads(file.read_text())
    assert content["attributes"] == list(module.attribute_names)
    assert content["attended_step"] == [1, 2, 3, 4, 1]
    assert content["step_of_largest_rise"][:4] == [1, 2, 3, 4]
    assert np.asarray(content["balanced_accuracy"]).shape == (5, 5)
    assert f"Written to {file if output is None else 'all/emergence.json'}"[-20:] in out


MISTAKES = [
    ("traverse --mode interpolate", "--mode interpolate needs --step: which latent block moves, 1 to 4"),
    ("traverse --mode interpolate --step 5", "1 to 4, got 5"),
    ("traverse --mode interpolate --step 1 --start posterior", "--start posterior: runs/toy/version_0/checkpoints"),
    ("traverse --mode interpolate --step 1 --images a.png", "--images: runs/toy/version_0/checkpoints/last.ckpt holds"),
    ("traverse --mode attribute", "--mode attribute needs --attribute: which turns, such as Bald"),
    ("traverse --mode attribute --attribute Smilling", "no attribute 'Smilling'; the nearest: Smiling"),
    ("traverse --attribute Smiling", "--attribute: of --mode attribute alone"),
    ("traverse --columns 3", "--columns: of --mode interpolate or content or attribute alone"),
    ("traverse --mode content --columns 1", "columns must be at least 2"),
    ("traverse --mode content --classifier a.ckpt", "--classifier: of --mode progressive alone"),
    ("traverse --attributes Smilling", "the nearest: Smiling"),
    ("traverse --num_judged 0 --classifier a.ckpt", "--num_judged must be at least 1, got 0"),
    ("attention --output map.jpg", "map.jpg: give a file that ends in .png"),
    ("attention --ckpt_path none.ckpt", "No checkpoint none.ckpt"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_one_line(zoo, run, capsys, words, said):
    command, *rest = words.split()
    given = [] if "--ckpt_path" in rest else ["--ckpt_path", "last"]
    device = [] if command == "attention" else ["--device", "cpu"]
    assert zoo(command, *rest, *given, *device) == 2
    assert said in one_error(capsys)
    assert not pictures_of(run[0]).exists()


def test_a_method_without_attention_or_attributes(zoo, project, generative_toy, conditional_toy, capsys):
    path = str(conditional_toy.save(generative_toy.LinearToy(), project))
    assert zoo("attention", "--ckpt_path", path) == 2
    assert "holds LinearToy, which has no attention over its attributes" in one_error(capsys)
    for words in (["--attributes", "Smiling"], ["--mode", "attribute", "--attribute", "Male"], ["--classifier", path]):
        assert zoo("traverse", "--ckpt_path", path, *words, "--device", "cpu") == 2
        assert "holds LinearToy, which draws without attributes" in one_error(capsys)


def test_a_classifier_that_is_none_or_knows_too_little(zoo, run, seeing, capsys):
    path = str(run[0])
    words = ["traverse", "--ckpt_path", path, "--num_images", "1", "--device", "cpu", "--classifier"]
    assert zoo(*words, path) == 2
    assert "holds ConditionalToy, which tells no attributes" in one_error(capsys)
    assert zoo(*words, seeing(names=("Bald", "Male", "Smiling", "Young", "Hat"))) == 2
    assert "attribute 'Eyeglasses' is none of the classifier's" in one_error(capsys)
    assert not pictures_of(run[0]).exists(), "it is looked at before anything is drawn"


@pytest.mark.parametrize("side", [96, 32])
def test_a_classifier_of_another_size_judges_no_enlarged_pictures(zoo, run, seeing, capsys, side):
    words = ["traverse", "--ckpt_path", "last", "--num_images", "1", "--device", "cpu", "--classifier"]
    assert zoo(*words, seeing(side=side)) == 2
    said = f"it judges images of 3x{side}x{side} (channels, height, width), ConditionalToy has 3x48x48"
    assert said in one_error(capsys)
    assert not pictures_of(run[0]).exists()
    assert zoo(*words, seeing(side=24), "--num_judged", "2") == 0
    assert "images of 3x48x48 are averaged down to 3x24x24 for the classifier" in capsys.readouterr().err


def test_an_attribute_that_never_appears_rises_nowhere():
    from lightning_zoo.cli.conditional_walks import emergence_lines
    from lightning_zoo.generative.attribute_emergence import Emergence

    balanced = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.9]])
    lines = emergence_lines(["Bald", "Male"], Emergence(balanced, balanced), {"Bald": 1, "Male": 2}, 20)
    assert [line.split() for line in lines[1:3]] == [
        ["Male", "2", "2", "+0.40", "0.90"],
        ["Bald", "1", "-", "+0.00", "0.50"],
    ]
    assert lines[-1].startswith("1 of the 1 attributes that are seen in the end (0.6 or more)")
