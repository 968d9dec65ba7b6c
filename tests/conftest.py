"""What several tests share: small real recordings, made once per test session."""

import os
from pathlib import Path

import pytest

# Tests run on few cores, often several processes at once: threads of their own would only fight for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """A folder for recordings that all tests may add to, never change."""
    return tmp_path_factory.mktemp("atari")


@pytest.fixture(scope="session")
def tiny_atari(recordings):
    """A function that builds `AtariFrames` on a few hundred real frames; arguments as for the class."""
    from datamodules import AtariFrames

    def build(**arguments):
        defaults = {
            "game": "pong",
            "root": str(recordings),
            "num_frames": 400,
            "num_probe_frames": 800,
            "num_streams": 4,
            "batch_size": 8,
            "entropy_threshold": 0.3,
        }
        module = AtariFrames(**(defaults | arguments))
        module.prepare_data()
        return module

    return build


@pytest.fixture
def generative_toy(monkeypatch):
    """The module of `toys/`: a generative method with a linear decoder, its like with a discriminator, pictures."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "toys")
    import generative_toy

    return generative_toy


@pytest.fixture
def conditional_toy(monkeypatch):
    """The module of `toys/`: a generative method that draws by attributes, and a function that saves it."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "toys")
    import conditional_toy

    return conditional_toy


@pytest.fixture(scope="session")
def faces_root(tmp_path_factory):
    """A folder with 48 synthetic faces in the layout of CelebA, which no test changes."""
    from datamodules.synthetic_faces import write_faces

    root = tmp_path_factory.mktemp("faces")
    write_faces(root, 48, num_workers=1)
    return root


@pytest.fixture
def free_port():
    """A function that names a port of this machine that nobody listens on."""
    import socket

    def find():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def mnist_files():
    """A function that writes a few random digits as MNIST's files into a folder, unless they are there."""
    import numpy as np

    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        for name, number in (("train", 40), ("t10k", 12)):
            images = random.integers(0, 256, (number, 28, 28), dtype=np.uint8)
            labels = random.integers(0, 10, number, dtype=np.uint8)
            for kind, magic, array in (("images-idx3", 2051, images), ("labels-idx1", 2049, labels)):
                header = np.array([magic, *array.shape], dtype=">i4").tobytes()
                (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
        return folder

    return write
