"""What `predict` leaves behind."""

import numpy as np
import pytest
import torch

from lightning_zoo.callbacks.prediction_file import write_arrays
from lightning_zoo.checkpoints import load

PREDICT = ("predict", "--config", "toy_pong.yaml", "--ckpt_path", "last")


def test_predictions_are_those_of_the_checkpoint_in_order(zoo, project, capsys):
    assert zoo("fit", "--config", "toy_pong.yaml", "--trainer.max_epochs", "1") == 0
    capsys.readouterr()
    assert zoo(*PREDICT) == 0
    folder = project / "runs/toy_pong/predict_0"
    assert [path.name for path in folder.iterdir() if path.suffix in (".npz", ".part")] == ["predictions.npz"]
    assert "Predictions: runs/toy_pong/predict_0/predictions.npz (features (24, 5), " in capsys.readouterr().out
    written = np.load(folder / "predictions.npz", allow_pickle=False)
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = load(project / "runs/toy_pong/version_0/checkpoints/last.ckpt").encode(x)
    assert set(written) == {"features", "first"}
    np.testing.assert_allclose(written["features"], expected.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(written["first"], x[:, 0].bfloat16().float().numpy())
    assert zoo(*PREDICT) == 0
    assert (project / "runs/toy_pong/predict_1/predictions.npz").is_file()


def test_a_file_is_complete_or_absent(tmp_path, monkeypatch):
    file = tmp_path / "predictions.npz"
    write_arrays(file, {"a": np.zeros(3)})
    before = file.read_bytes()

    def cut(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", cut)
    with pytest.raises(OSError, match="No space"):
        write_arrays(file, {"a": np.ones(3)})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]
