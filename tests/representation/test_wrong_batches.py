"""Every method names the option to set when the data serve another kind of batch than it reads."""

import pytest
import torch

import lightning_zoo
from lightning_zoo.networks.encoders import checked_clips, checked_images

IMAGES = torch.zeros(2, 1, 210, 160, dtype=torch.uint8)
PAIRS = torch.zeros(2, 2, 1, 210, 160, dtype=torch.uint8)
TRIPLES = torch.zeros(2, 3, 1, 210, 160, dtype=torch.uint8)


def one_line(error):
    return "\n" not in str(error.value)


def model_of(method):
    if method == "CategoryEnsemble":
        return lightning_zoo.CategoryEnsemble(categories=["misc"], feature_size=8)
    return getattr(lightning_zoo, method)(feature_size=8)


@pytest.mark.parametrize(
    ("method", "frames", "length"),
    [
        ("STDIM", IMAGES, "2"),
        ("STDIM", TRIPLES, "2"),
        ("GlobalDIM", IMAGES, "2"),
        ("GlobalDIM", TRIPLES, "2"),
        ("JSDSTDIM", IMAGES, "2"),
        ("JSDSTDIM", TRIPLES, "2"),
        ("CategoryEnsemble", IMAGES, "2"),
        ("ThreeFrameDIM", IMAGES, "3"),
        ("ThreeFrameDIM", PAIRS, "3"),
        ("PixelPrediction", IMAGES, "to two or more"),
        ("CPC", IMAGES, "to two or more"),
    ],
)
def test_clip_methods_name_what_to_serve(method, frames, length):
    model, batch = model_of(method), {"frames": frames, "negatives": IMAGES}
    with pytest.raises(ValueError, match=rf"set --data\.serve clips and --data\.clip_length {length}$") as error:
        model.validation_step(batch, 0)
    assert one_line(error)


def test_pairs_without_a_random_frame_name_the_option():
    with pytest.raises(ValueError, match=r"set --data\.same_episode_negatives true$") as error:
        model_of("JSDSTDIM").validation_step({"frames": PAIRS}, 0)
    assert one_line(error)


@pytest.mark.parametrize("method", ["Supervised", "Majority"])
def test_frames_without_labels_name_what_to_serve(method):
    model = getattr(lightning_zoo, method)(variables=["ball_x"])
    for step in (model.validation_step, model.test_step):
        with pytest.raises(ValueError, match=r"has frames but no labels: set --data\.serve labelled$"):
            step({"frames": IMAGES}, 0)


@pytest.mark.parametrize("method", ["STDIM", "CPC", "FrameVAE", "StaticDIM", "RandomCNN"])
def test_encode_names_what_it_reads(method):
    with pytest.raises(ValueError, match=r"got shape \(2, 2, 1, 210, 160\): set --data\.serve images") as error:
        model_of(method).encode(PAIRS)
    assert one_line(error)


def test_frames_of_the_right_kind_pass_as_they_are():
    assert checked_images(IMAGES) is IMAGES
    assert checked_clips(PAIRS, 2) is PAIRS
    assert checked_clips(TRIPLES) is TRIPLES
