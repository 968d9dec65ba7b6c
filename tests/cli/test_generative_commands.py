"""`sample`, `reconstruct`, `complete` and `traverse`: what they draw, where it goes, what they refuse."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def save(project, generative_toy):
    """Write a checkpoint of a toy as a run of `fit` on the toy's pictures would; its path and the module."""
    import lightning

    def write(method="AdversarialToy", data=True, name="toy", stem="last", **arguments):
        module = getattr(generative_toy, method)(**({"size": 48, "channels": 3} | arguments)).eval()
        checkpoint = {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "epoch": 1,
            "global_step": 2,
            "pytorch-lightning_version": lightning.__version__,
        }
        if data:
            channels, size, _ = module.image_shape
            pictures = {"_class_path": "generative_toy.ToyPictures", "rows": 12, "size": size, "channels": channels}
            checkpoint["datamodule_hyper_parameters"] = pictures | {"_instantiator": "a name"}
        module.on_save_checkpoint(checkpoint)
        path = project / "runs" / name / "version_0" / "checkpoints" / f"{stem}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)
        return path, module

    return write


@pytest.fixture
def toy(save):
    return save()


def one_error(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) / 255


def cell(file, row, column, size=48, header=0):
    top, left = 2 + header + row * (size + 2), 2 + column * (size + 2)
    return pixels(file)[:, top : top + size, left : left + size]


def pictures_of(path):
    return path.parents[1] / "pictures"


def close(shown, image):
    np.testing.assert_allclose(shown, image.clamp(0, 1).numpy(), atol=1 / 255)


def test_sample_draws_a_grid_beside_the_run(zoo, toy, capsys):
    path, module = toy
    assert zoo("sample", "--ckpt_path", "last", "--num_images", "5", "--seed", "3", "--device", "cpu") == 0
    file = pictures_of(path) / "sample_seed3.png"
    assert f"Written to {file.relative_to(path.parents[4])}\n" in capsys.readouterr().out
    expected = module.sample(5, generator=torch.Generator().manual_seed(3))
    for index in range(5):
        close(cell(file, *divmod(index, 3)), expected[index])


def test_sample_writes_a_folder_in_batches(zoo, toy, project, capsys):
    path, module = toy
    words = ["--num_images", "5", "--batch_size", "2", "--truncation", "0.5", "--output", "drawn/", "--device", "cpu"]
    assert zoo("sample", "--ckpt_path", str(path), *words) == 0
    assert sorted(file.name for file in (project / "drawn").iterdir()) == [f"{n:06d}.png" for n in range(5)]
    expected = module.sample(5, truncation=0.5, generator=torch.Generator().manual_seed(0))
    for index in range(5):
        close(pixels(project / f"drawn/{index:06d}.png"), expected[index])
    assert zoo("sample", "--ckpt_path", str(path), *words[2:], "--num_images", "3") == 2
    assert "other pictures lie there (000003.png)" in one_error(capsys)


def test_a_best_checkpoint_has_a_picture_of_its_own(zoo, save):
    path, _ = save(stem="best-epoch001")
    assert zoo("sample", "--ckpt_path", "best", "--num_images", "1", "--device", "cpu") == 0
    assert [file.name for file in pictures_of(path).iterdir()] == ["sample_seed0_best-epoch001.png"]


def test_pictures_go_to_the_run_in_mlflow(zoo, toy, project, capsys):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    store = MLflowStore()
    store.place("toy", toy[0].parents[1])
    run_id = store.run_id
    store.finalize("success")
    words = ["sample", "--ckpt_path", "last", "--num_images", "1", "--device", "cpu"]
    assert zoo(*words, "--log", "false") == 0
    assert "MLflow" not in capsys.readouterr().out
    assert zoo(*words) == 0
    assert "and to its MLflow run" in capsys.readouterr().out
    assert (project / f"mlruns/toy/{run_id}/artifacts/sample_seed0.png").is_file()
    with closing(sqlite3.connect(project / "mlflow.db")) as base:
        assert base.execute("select count(*) from metrics").fetchone() == (0,)


def test_reconstruct_shows_each_image_above_its_reconstruction(zoo, toy, generative_toy, capsys):
    path, module = toy
    assert zoo("reconstruct", "--ckpt_path", "last", "--num_images", "7", "--device", "cpu") == 0
    data = generative_toy.ToyPictures(size=48, channels=3)
    data.setup()
    drawn = module.reconstruct(data.images[:7])
    file = pictures_of(path) / "reconstruct_val.png"
    for index in range(7):
        row, column = divmod(index, 4)
        close(cell(file, 2 * row, column), data.images[index] / 255)
        close(cell(file, 2 * row + 1, column), drawn[index])
    error = ((2 * drawn - data.images[:7] / 127.5) ** 2).mean()
    assert f"Mean squared error: {error:.4f}" in capsys.readouterr().out


def test_a_split_with_fewer_images_says_so(zoo, toy, capsys):
    assert zoo("reconstruct", "--ckpt_path", "last", "--split", "test", "--output", "all/", "--device", "cpu") == 0
    captured = capsys.readouterr()
    assert "The test split has 12 images." in captured.err
    assert "all/: 24 pictures" in captured.out


def test_own_pictures_are_resized_with_a_note(zoo, save, project, capsys):
    save("LinearToy", data=False)
    Image.new("RGB", (96, 96), (255, 0, 0)).save(project / "red.png")
    Image.new("L", (48, 48), 51).save(project / "grey.png")
    words = ["--images", "red.png", "grey.png", "--output", "both/", "--device", "cpu"]
    assert zoo("reconstruct", "--ckpt_path", "last", *words) == 0
    assert capsys.readouterr().err == "red.png: resized from 96x96 to 48x48\n"
    assert (pixels(project / "both/000000_original.png").mean((1, 2)) == [1, 0, 0]).all()
    np.testing.assert_allclose(pixels(project / "both/000001_original.png"), 0.2)


def test_complete_shows_original_masked_and_completed(zoo, toy, generative_toy, capsys):
    path, module = toy
    words = ["--mask", "left", "--num_images", "2", "--steps", "5", "--restarts", "2", "--device", "cpu"]
    assert zoo("complete", "--ckpt_path", "last", *words) == 0
    assert "Columns: original, masked, best, decoded, restart 2\n" in capsys.readouterr().out
    from lightning_zoo.generative.completion import Search
    from lightning_zoo.generative.completion import complete as search
    from lightning_zoo.generative.masks import named_mask

    data = generative_toy.ToyPictures(size=48, channels=3)
    data.setup()
    mask = named_mask("left", 48, 48)
    found = search(module, data.images[:2], mask, restarts=2, search=Search(steps=5))
    file = pictures_of(path) / "complete_left_val_seed0.png"
    real = data.images[:2] / 255
    for row in range(2):
        worse = found.restarts[1 - found.best[row], row]
        shown = [real, mask * real + (1 - mask) * 0.5, found.images, found.decoded]
        for column, images in enumerate(shown):
            close(cell(file, row, column, header=14), images[row])
        close(cell(file, row, 4, header=14), torch.where(mask.bool(), real[row], worse))


def test_complete_takes_a_picture_as_mask(zoo, toy, project):
    mask = Image.new("L", (48, 48), 255)
    mask.paste(0, (0, 0, 10, 20))
    mask.save(project / "hole.png")
    words = ["--mask", "hole.png", "--num_images", "1", "--steps", "1", "--output", "out/", "--device", "cpu"]
    assert zoo("complete", "--ckpt_path", "last", *words) == 0
    masked, original = (pixels(project / f"out/000000_{kind}.png") for kind in ("masked", "original"))
    np.testing.assert_allclose(masked[:, :20, :10], 0.5, atol=1 / 255)
    np.testing.assert_array_equal(masked[:, 20:], original[:, 20:])
    np.testing.assert_array_equal(masked[:, :, 10:], original[:, :, 10:])


def test_traverse_draws_blocks_in_turn(zoo, toy, capsys):
    from lightning_zoo.generative.traversal import progressive

    path, module = toy
    assert zoo("traverse", "--ckpt_path", "last", "--num_images", "2", "--device", "cpu") == 0
    assert "Columns: 0, z1, +z2, +z3, +z4\n" in capsys.readouterr().out
    expected = progressive(module, 2)
    for row in range(2):
        for column in range(5):
            close(
                cell(pictures_of(path) / "traverse_progressive_seed0.png", row, column, header=14),
                expected[row, column],
            )


def test_traverse_moves_one_block_of_real_images(zoo, toy, generative_toy):
    path, module = toy
    words = ["--mode", "interpolate", "--step", "4", "--columns", "3", "--start", "posterior", "--shared_target"]
    assert zoo("traverse", "--ckpt_path", "last", *words, "--num_images", "2", "--device", "cpu") == 0
    data = generative_toy.ToyPictures(size=48, channels=3)
    data.setup()
    file = pictures_of(path) / "traverse_interpolate_step4_posterior_shared_seed0.png"
    reconstructed = module.reconstruct(data.images[:2])
    for row in range(2):
        close(cell(file, row, 0, header=14), reconstructed[row])


def test_a_model_of_one_block_says_so(zoo, save, capsys):
    save("LinearToy", num_steps=1)
    assert zoo("traverse", "--ckpt_path", "last", "--num_images", "1", "--device", "cpu") == 0
    assert "one latent block" in capsys.readouterr().out
    assert zoo("traverse", "--ckpt_path", "last", "--mode", "interpolate", "--step", "2", "--device", "cpu") == 2
    assert "1 alone: it has one latent block, got 2" in one_error(capsys)


def test_labels_that_do_not_fit_are_left_out(zoo, save):
    path, _ = save("LinearToy", size=8, channels=1)
    words = ["--mask", "half", "--steps", "1", "--num_images", "1", "--restarts", "1", "--device", "cpu"]
    assert zoo("complete", "--ckpt_path", "last", *words) == 0
    assert pixels(pictures_of(path) / "complete_half_val_seed0.png").shape == (3, 12, 42)


MISTAKES = [
    ("sample --num_images 0", "--num_images must be at least 1, got 0"),
    ("sample --seed -1", "--seed must not be negative"),
    ("sample --truncation -0.5", "--truncation must be 0 or more"),
    ("sample --output a.jpg", "a.jpg: give a file that ends in .png, or a folder"),
    ("sample --ckpt_path none.ckpt", "No checkpoint none.ckpt"),
    ("complete", "Missing: mask. Give --mask ..."),
    ("complete --mask moth", "no 'moth'; did you mean 'mouth'?"),
    ("complete --mask hole.png", "hole.png: no such file"),
    ("complete --mask white.png", "hides nothing"),
    ("complete --mask black.png", "hides everything"),
    ("complete --mask small.png", "small.png is 32x32 pixels (width x height), the images are 48x48"),
    ("complete --mask half --images small.png", "small.png is 32x32 pixels (width x height), the model's are 48x48"),
    ("complete --mask half --steps 0", "steps must be at least 1"),
    ("reconstruct --images wide.png", "wide.png is 96x50 pixels (width x height), the model's are 48x48: crop it"),
    ("reconstruct --images text.png", "text.png cannot be read: it is no picture"),
    ("reconstruct --images", "--images: no file is given"),
    ("traverse --mode interpolate", "needs --step: which latent block moves, 1 to 4"),
    ("traverse --mode interpolate --step 5", "1 to 4, got 5"),
    ("traverse --mode interpolate --step 0 --start posterior", "1 to 4, got 0"),
    ("traverse --step 2", "--step: of --mode interpolate alone"),
    ("traverse --start prior --images white.png --mode interpolate --step 1", "samples start from no picture"),
    ("probe", "was trained on ToyPictures; probes read the state of Atari games"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_one_line(zoo, toy, project, capsys, words, said):
    for name, size, level in [("white", (48, 48), 255), ("black", (48, 48), 0), ("small", (32, 32), 0)]:
        Image.new("L", size, level).save(project / f"{name}.png")
    Image.new("L", (96, 50), 9).save(project / "wide.png")
    (project / "text.png").write_text("no picture")
    command, *rest = words.split()
    given = [] if "--ckpt_path" in rest else ["--ckpt_path", "last"]
    assert zoo(command, *rest, *given, "--device", "cpu") == 2
    assert said in one_error(capsys)
    assert not pictures_of(toy[0]).exists()


def test_a_checkpoint_of_another_kind(zoo, project, capsys):
    assert zoo("fit", "--config", "toy_pong.yaml") == 0
    assert "Next:       lightning_zoo probe" in capsys.readouterr().out
    assert zoo("sample", "--ckpt_path", "last") == 2
    assert "holds Toy, which is no generative method: sample needs a VAE or GAN" in one_error(capsys)


def test_a_generative_run_points_to_its_samples(zoo, project, generative_toy, capsys):
    toys = {"model": "generative_toy.AdversarialToy", "data": "generative_toy.ToyPictures"}
    words = [word for key, path in toys.items() for word in (f"--{key}", path)]
    assert zoo("fit", *words, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu") == 0
    hint = capsys.readouterr().out.splitlines()[-1].split()
    assert hint[:3] == ["Next:", "lightning_zoo", "sample"]
    assert zoo(*hint[2:], "--num_images", "2") == 0
    assert zoo("reconstruct", *hint[3:], "--num_images", "2") == 0


def test_data_that_cannot_be_told_or_do_not_fit(zoo, save, generative_toy, capsys, monkeypatch):
    path, _ = save(data=False, name="untold")
    assert zoo("reconstruct", "--ckpt_path", str(path)) == 2
    assert "does not say which dataset it was trained on" in one_error(capsys)
    path, _ = save(name="gone")
    monkeypatch.delattr(generative_toy, "ToyPictures")
    assert zoo("reconstruct", "--ckpt_path", str(path)) == 2
    assert "was trained on generative_toy.ToyPictures, which cannot be imported" in one_error(capsys)
