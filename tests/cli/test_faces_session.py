"""The faces page without the page: actions, what is remembered, saved codes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_zoo.cli.attribute_labels import GROUPS, grouped, readable
from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.face_codes import Origin, origin_of, read_code, write_code
from lightning_zoo.cli.faces_session import REMEMBERED, FaceMaker, Session, png

ORIGIN = Origin("ConditionalToy", ("Bald", "Eyeglasses", "Male", "Smiling", "Young"), (8, 2, 2), (3, 16, 16), "abc")


@pytest.fixture
def make(conditional_toy, tmp_path):
    def build(seed=0, **arguments):
        model = conditional_toy.ConditionalToy(**arguments).eval()
        file = tmp_path / "model.ckpt"
        file.write_bytes(b"weights")
        return FaceMaker(model, origin_of(model, file), tmp_path / "saved", seed)

    return build


@pytest.fixture
def maker(make):
    return make()


@pytest.fixture
def picked(maker):
    return maker.pick(maker.propose(Session(), {}), 3)


def latents(session):
    return torch.stack([face.latent for face in session.candidates])


def attributes(session):
    return torch.stack([face.attributes for face in session.candidates])


def test_proposed_faces_have_what_is_wanted_and_differ(maker):
    session = maker.propose(Session(), {2: -1, 3: 1})
    assert len(session.candidates) == 16
    assert (attributes(session)[:, 2] == -1).all()
    assert (attributes(session)[:, 3] == 1).all()
    assert len({face.image.numpy().tobytes() for face in session.candidates}) == 16


def test_what_is_left_open_varies_among_the_faces(maker):
    assert len(attributes(maker.propose(Session(), {0: 1})).unique(dim=0)) == 5


def test_each_press_shows_other_faces_and_a_seed_repeats_them(make):
    first = make().propose(Session(), {})
    again = make().propose(first, {})
    assert not torch.equal(latents(first), latents(again))
    assert torch.equal(latents(make().propose(Session(), {})), latents(first))
    assert not torch.equal(latents(make(seed=1).propose(Session(), {})), latents(first))


def test_spread_narrows_the_draws(maker):
    model = maker.model
    session = maker.propose(Session(), {}, spread=0.0)
    torch.testing.assert_close(latents(session), model.prior(attributes(session))[0].detach())


def test_spread_narrows_the_variants_too(maker, picked):
    variants = maker.resample(picked, 3, share=1.0, spread=0.0)
    mean = maker.model.prior(attributes(variants))[0].detach()
    torch.testing.assert_close(latents(variants)[:, 4:6], mean[:, 4:6])


def test_contradictions_are_noticed(make):
    maker = make(attribute_names=("Bald", "Bangs", "Wavy_Hair", "No_Beard", "Goatee"))
    session = maker.propose(Session(), {0: 1, 1: 1, 3: 1, 4: 1})
    told = "Contradictory attributes, drawn all the same: Bald with Bangs, No beard with Goatee."
    assert session.notice == told
    assert len(session.candidates) == 16
    assert maker.propose(session, {0: 1, 1: -1}).notice == ""


def test_a_picked_face_is_the_current_one(maker, picked):
    assert picked.picked == 3
    assert picked.current is picked.candidates[3]
    assert maker.pick(picked, 99).current is picked.current


def test_variants_differ_in_one_block_alone(maker, picked):
    variants = maker.resample(picked, 3, share=0.7, number=8)
    assert len(variants.candidates) == 8
    assert variants.current is picked.current
    own = picked.current.latent.expand(8, -1, -1, -1)
    moved = latents(variants)
    assert torch.equal(moved[:, :4], own[:, :4])
    assert torch.equal(moved[:, 6:], own[:, 6:])
    assert (moved[:, 4:6] != own[:, 4:6]).all()
    assert len(moved.unique(dim=0)) == 8
    assert torch.equal(attributes(variants), picked.current.attributes.expand(8, -1))
    assert "block 3 moved by 70%" in variants.shown


def test_variants_need_a_face(maker):
    session = maker.resample(Session(), 1, share=0.5)
    assert session.notice.startswith("Pick a face first")
    assert not session.past


def test_undo_goes_back_step_by_step(maker, picked):
    varied = maker.resample(picked, 1, share=0.5)
    chosen = maker.pick(varied, 0)
    assert chosen.back().current is picked.current
    assert chosen.back().candidates is varied.candidates
    assert chosen.back().back().candidates is picked.candidates
    assert chosen.back().back().picked == 3
    start = chosen.back().back().back().back()
    assert start.current is None
    assert start.candidates == ()
    assert start.back().notice == "There is nothing to undo."


def test_after_an_undo_new_faces_are_drawn(maker):
    first = maker.propose(Session(), {})
    assert not torch.equal(latents(maker.propose(first.back(), {})), latents(first))


def test_the_memory_ends(maker):
    session = maker.propose(Session(), {})
    for index in range(REMEMBERED + 9):
        session = maker.pick(session, index % 16)
    assert len(session.past) == REMEMBERED
    assert all(before.past == () for before in session.past)


def test_saved_faces_come_back(maker, picked):
    saved = maker.save(picked)
    file = maker.folder / "face_001.npz"
    assert str(maker.folder / "face_001.png") in saved.notice
    picture = np.asarray(Image.open(maker.folder / "face_001.png"))
    assert np.array_equal(picture.transpose(2, 0, 1), picked.current.image.numpy())
    opened = maker.open(Session(), file)
    assert opened.notice == "Opened face_001.npz."
    assert torch.equal(opened.current.latent, picked.current.latent)
    assert torch.equal(opened.current.attributes, picked.current.attributes)
    assert torch.equal(opened.current.image, picked.current.image)
    assert maker.resample(opened, 2, share=1).candidates


def test_nothing_saved_is_written_over(maker, picked):
    for _ in range(3):
        maker.save(picked)
    names = sorted(file.name for file in maker.folder.iterdir())
    assert names == [f"face_00{number}.{suffix}" for number in (1, 2, 3) for suffix in ("npz", "png")]


def test_nothing_to_save_and_nowhere_to_save(maker, picked):
    assert maker.save(Session()).notice.startswith("There is no face to save")
    maker.folder.write_text("a file")
    assert "give another --output" in maker.save(picked).notice


def test_a_code_is_plain_arrays(maker, picked):
    maker.save(picked)
    with np.load(maker.folder / "face_001.npz", allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    assert content["attribute_names"].tolist() == list(ORIGIN.attribute_names)
    assert content["latent"].shape == (8, 2, 2)
    assert str(content["method"]) == "ConditionalToy"


def test_a_code_holds_what_was_written(tmp_path):
    latent, asked = torch.ones(8, 2, 2), torch.tensor([1.0, -1, 1, -1, 1])
    write_code(tmp_path / "a.npz", latent, asked, ORIGIN)
    code = read_code(tmp_path / "a.npz", ORIGIN)
    assert (code.image_shape, code.checkpoint) == (ORIGIN.image_shape, ORIGIN.checkpoint)
    assert torch.equal(code.latent, latent)
    assert torch.equal(code.attributes, asked)


def test_a_code_of_another_checkpoint_of_the_same_shape_is_told(maker, picked, tmp_path):
    write_code(tmp_path / "a.npz", picked.current.latent, picked.current.attributes, ORIGIN)
    opened = maker.open(Session(), tmp_path / "a.npz")
    assert opened.notice == "Opened a.npz. It was saved from another checkpoint: the picture may differ."
    assert torch.equal(opened.current.image, picked.current.image)


def test_a_code_from_before_the_method_grew_opens_at_the_present_size(tmp_path):
    from lightning_zoo.generative.acvae_gan import ACVAEGAN

    torch.manual_seed(0)
    model = ACVAEGAN(base_channels=2, latent_channels=16, hidden_size=8).eval()
    model.attribute_bank.copy_((torch.rand(1024, 40) < 0.5) * 2 - 1)
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"small")
    small = FaceMaker(model, origin_of(model, file), tmp_path)
    saved = small.pick(small.propose(Session(), {}), 2)
    small.save(saved)

    model.grow(128)
    model.finish_growth()
    file.write_bytes(b"grown")
    grown = FaceMaker(model.eval(), origin_of(model, file), tmp_path)
    opened = grown.open(Session(), tmp_path / "face_001.npz")
    assert opened.notice == (
        "Opened face_001.npz. It was saved from another checkpoint, of 64 x 64 pixels where this one draws 128 x 128: "
        "the picture may differ."
    )
    assert opened.current.image.shape == (3, 128, 128)
    assert torch.equal(opened.current.latent, saved.current.latent)
    assert grown.resample(opened, 8, share=0.5).candidates


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "ACVAEGAN"}, r"a.npz is of ConditionalToy, the checkpoint of ACVAEGAN"),
        ({"latent_shape": (16, 2, 2)}, r"shape \(8, 2, 2\), the checkpoint's are \(16, 2, 2\)"),
        ({"attribute_names": ("Bald", "Bangs", "Male", "Smiling", "Young")}, "Eyeglasses is not of this checkpoint"),
        ({"attribute_names": tuple(reversed(ORIGIN.attribute_names))}, "their order differs"),
    ],
)
def test_codes_of_other_models_are_refused(tmp_path, changes, words):
    write_code(tmp_path / "a.npz", torch.ones(8, 2, 2), torch.ones(5), ORIGIN)
    with pytest.raises(UsageError, match=words) as caught:
        read_code(tmp_path / "a.npz", Origin(**(vars(ORIGIN) | changes)))
    assert "\n" not in str(caught.value)


def write_broken(kind, file):
    if kind == "text":
        file.write_text("no archive")
    elif kind == "pickle":
        np.savez(file, latent=np.array([{}], dtype=object))
    elif kind == "half":
        write_code(file, torch.ones(8, 2, 2), torch.ones(5), ORIGIN)
        file.write_bytes(file.read_bytes()[:400])
    elif kind == "entries":
        np.savez(file, latent=np.ones((8, 2, 2)))
    elif kind == "values":
        write_code(file, torch.full((8, 2, 2), float("nan")), torch.ones(5), ORIGIN)
    elif kind == "types":
        write_code(file, torch.ones(8, 2, 2), torch.ones(5), ORIGIN)
        with np.load(file) as archive:
            np.savez(file, **(dict(archive) | {"latent": np.full((8, 2, 2), "one")}))


@pytest.mark.parametrize("kind", ["missing", "text", "pickle", "half", "entries", "values", "types"])
def test_broken_codes_are_one_line(maker, picked, tmp_path, kind):
    write_broken(kind, tmp_path / "b.npz")
    after = maker.open(picked, tmp_path / "b.npz")
    assert after.notice.startswith("b.npz is ")
    assert "\n" not in after.notice
    assert after.current is picked.current


def test_blocks_name_the_attributes_that_attend_them(maker):
    names = maker.block_names()
    assert len(names) == 4
    assert names[1].startswith("Block 2 (")
    assert names[1].endswith("): Eyeglasses")
    assert f"({maker.effects[1]:.1f})" in names[1]


def test_without_recurrency_the_only_block_is_the_whole(make):
    maker = make(num_steps=1)
    (name,) = maker.block_names()
    assert name.startswith("The whole latent tensor")
    session = maker.resample(maker.pick(maker.propose(Session(), {}), 0), 1, share=1.0)
    assert "its whole latent tensor" in session.shown
    assert not (latents(session) == session.current.latent).any()


@pytest.mark.parametrize(
    ("effects", "block"), [([9.0, 1.0, 3.0, 5.0], 4), ([0.4, 38.2, 0.3, 12.8], 4), ([0.1, 0.3], 2), ([0.0, 2.0], 2)]
)
def test_the_gentle_block_is_in_the_middle_of_those_that_show(maker, effects, block):
    maker.effects = effects
    assert maker.gentle_block() == block


def test_an_untrained_model_has_nothing_to_fill_in_from(conditional_toy, tmp_path):
    model = conditional_toy.ConditionalToy()
    model.attribute_bank.zero_()
    with pytest.raises(ValueError, match="train the method first"):
        FaceMaker(model, ORIGIN, tmp_path)


def test_every_attribute_of_celeba_has_one_place_and_a_readable_name():
    from datamodules.face_attributes import ATTRIBUTE_NAMES

    assert sorted(name for members in GROUPS.values() for name in members) == sorted(ATTRIBUTE_NAMES)
    assert readable("Wearing_Hat") == "Wearing hat"
    assert readable("5_o_Clock_Shadow") == "5 o'clock shadow"
    assert grouped(["Male", "Whiskers"]) == {"Person": [0], "Others": [1]}


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_the_image_back(channels):
    image = torch.arange(channels * 20, dtype=torch.uint8).reshape(channels, 4, 5)
    pixels = np.asarray(Image.open(io.BytesIO(png(image)))).reshape(4, 5, channels)
    assert np.array_equal(pixels.transpose(2, 0, 1), image.numpy())


def test_a_small_acvae_gan_is_drawn_picked_and_varied(tmp_path):
    from lightning_zoo.generative.acvae_gan import ACVAEGAN

    torch.manual_seed(0)
    model = ACVAEGAN(base_channels=2, latent_channels=16, hidden_size=8).eval()
    model.attribute_bank.copy_((torch.rand(1024, 40) < 0.5) * 2 - 1)
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"weights")
    maker = FaceMaker(model, origin_of(model, file), tmp_path)
    session = maker.pick(maker.propose(Session(), {31: 1, 20: -1}), 5)
    assert session.current.image.shape == (3, 64, 64)
    varied = maker.resample(session, 8, share=0.5)
    own = session.current.latent.expand(16, -1, -1, -1)
    assert torch.equal(latents(varied)[:, :14], own[:, :14])
    assert (latents(varied)[:, 14:] != own[:, 14:]).all()
    assert len(maker.block_names()) == 8
    expected = model.decode(latents(varied), attributes(varied)).detach().mul(255).round().byte()
    drawn = torch.stack([face.image for face in varied.candidates])
    assert (drawn.int() - expected.int()).abs().max() <= 1
