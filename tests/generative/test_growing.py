"""Methods whose images double their size: what they draw before and after, what they save, what is left in the end."""

from collections import Counter

import lightning as L
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_zoo import ACVAEGAN, ConditionalCRVAEGAN, ConditionalVAEGAN, load
from lightning_zoo.checkpoints import CheckpointError
from lightning_zoo.generative.growing import doublings_to

NAMES = ("Bald", "Male", "Smiling")
SMALL = {"attribute_names": NAMES, "base_channels": 2, "latent_channels": 8}
RECURRENT = {"hidden_size": 4, "num_layers": 1}
METHODS = {"ACVAEGAN": ACVAEGAN, "ConditionalCRVAEGAN": ConditionalCRVAEGAN, "ConditionalVAEGAN": ConditionalVAEGAN}

attributes = torch.tensor([[1.0, -1, 1], [-1, -1, 1]])


def make(cls=ACVAEGAN, *, seed=0, **changes):
    torch.manual_seed(seed)
    module = cls(**SMALL, **(RECURRENT if cls is not ConditionalVAEGAN else {}), **changes)
    network = module.autoencoder
    # As they are initialised all images are grey; one batch's statistics bring them apart.
    network.train().generate(torch.randn(16, *module.latent_shape), torch.ones(16, len(NAMES)))
    network.infer(torch.rand(4, *module.image_shape) * 2 - 1, torch.ones(4, len(NAMES)))
    if module.averaged is not None:
        module.averaged.update_parameters(network)
    return module.eval()


def save(module, path):
    trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def pictures(size, number=2):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(7))


def outputs(module):
    """What is drawn, inferred and judged, of averaged and of live weights."""
    latent = torch.randn(2, *module.latent_shape, generator=torch.Generator().manual_seed(8))
    images = pictures(module.image_size)
    live = module.autoencoder.generate(latent, attributes)[0]
    return {
        "decoded": module.decode(latent, attributes),
        "live": live,
        "posterior": torch.cat(module.posterior(images, attributes)),
        "realness": module.realness(images, attributes),
    }


def assert_same_outputs(ours, theirs):
    for (name, one), other in zip(outputs(ours).items(), outputs(theirs).values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize(("size", "number"), [(64, 0), (128, 1), (256, 2), (1024, 4)])
def test_doublings(size, number):
    assert doublings_to(size) == number


@pytest.mark.parametrize("size", [96, 192, 32, 65, 1, 0, -64])
def test_sizes_that_are_no_doubling_are_named(size):
    message = f"first_size must be 64, or doublings of it as 128 and 256, got {size}$"
    with pytest.raises(ValueError, match=message):
        doublings_to(size)
    if size == 96:
        with pytest.raises(ValueError, match=message):
            make(first_size=size)


@pytest.mark.parametrize("wrong", [64, 96, 256])
def test_a_method_grows_to_twice_its_size_alone(wrong):
    module = make()
    names = list(module.state_dict())
    with pytest.raises(ValueError, match=f"images of 64 pixels can grow to 128, not {wrong}"):
        module.grow(wrong)
    assert list(module.state_dict()) == names
    assert (module.image_size, module.fading, module.fade) == (64, False, 1.0)


def test_while_it_fades_it_does_not_grow():
    module = make(averaging_decay=0.9)
    module.grow(128)
    names = list(module.state_dict())
    with pytest.raises(ValueError, match=r"still fading in its newest resolution; finish\(\) before it grows again"):
        module.grow(256)
    assert (module.image_shape, list(module.state_dict())) == ((3, 128, 128), names)


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
def test_at_first_it_draws_infers_and_judges_as_before(cls, decay):
    module = make(cls, averaging_decay=decay)
    before = outputs(module)
    means = module.posterior(pictures(64), attributes)[0]
    module.grow(128)
    assert (module.image_shape, module.fading, module.fade) == ((3, 128, 128), True, 0.0)
    after = outputs(module)
    for name in ("decoded", "live"):
        assert torch.equal(after[name], before[name].repeat_interleave(2, 2).repeat_interleave(2, 3)), name
    large = pictures(64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module.posterior(large, attributes)[0], means)
    torch.testing.assert_close(module.realness(large, attributes), before["realness"])


def test_the_average_of_what_is_new_is_the_new_itself():
    module = make(averaging_decay=0.9)
    module.grow(128)
    live, averaged = module.autoencoder.decoder.ends, module.averaged.module.decoder.ends
    pairs = zip(live.blocks[0].parameters(), averaged.blocks[0].parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    assert not any(parameter.requires_grad for parameter in module.averaged.parameters())
    assert all(parameter.requires_grad for parameter in module.autoencoder.parameters())
    module.set_fade(0.5)
    assert [float(end.fade) for end in module.ends()] == [0.5] * 5, "both ends twice, and the discriminator's"
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.add_(1.0)
        for parameter in averaged.parameters():
            parameter.zero_()
    module.averaged.update_parameters(module.autoencoder)
    for one, other in zip(live.parameters(), averaged.parameters(), strict=True):
        torch.testing.assert_close(other, 0.1 * one.detach())
    assert {float(end.fade) for end in module.ends()} == {0.5}


@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_checkpoint_from_the_fade_goes_on_fading(tmp_path, decay):
    module = make(averaging_decay=decay)
    module.grow(128)
    module.set_fade(0.375)
    loaded = load(save(module, tmp_path / "a.ckpt"))
    assert (loaded.image_shape, loaded.fading, loaded.fade) == ((3, 128, 128), True, 0.375)
    assert_same_outputs(loaded, module)
    loaded.finish_growth()
    module.finish_growth()
    assert_same_outputs(loaded, module)


@pytest.mark.parametrize("last", ["fading", "finished"])
def test_a_checkpoint_of_a_larger_size_is_grown_to(tmp_path, last):
    module = make()
    module.grow(128)
    module.finish_growth()
    module.grow(256)
    module.set_fade(0.5)
    if last == "finished":
        module.finish_growth()
    loaded = load(save(module, tmp_path / "a.ckpt"))
    assert (loaded.image_size, loaded.fading) == (256, last == "fading")
    assert loaded.hparams.first_size == 64
    assert_same_outputs(loaded, module)


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_a_checkpoint_of_a_smaller_size_is_refused(tmp_path, alpha):
    """And one in the fade to the size itself, whose old layers have no place here."""
    module = make()
    if alpha is not None:
        module.grow(128)
    checkpoint = torch.load(save(module, tmp_path / "a.ckpt"), weights_only=True)
    size, fading = (64, "") if alpha is None else (128, " that are still being faded in")
    message = f"checkpoint has images of {size} pixels{fading}, the method those of 128: .* set first_size to {size}"
    with pytest.raises(ValueError, match=message):
        make(first_size=128).on_load_checkpoint(checkpoint)
    checkpoint["hyper_parameters"]["first_size"] = 128
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"does not fit ACVAEGAN as it is now: .* images of {size} pixels"):
        load(tmp_path / "a.ckpt")


def test_where_it_fades_a_finished_checkpoint_is_finished(tmp_path):
    path = save(make(first_size=128, seed=1), tmp_path / "a.ckpt")
    module = make()
    module.grow(128)
    checkpoint = torch.load(path, weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    assert not module.fading
    assert_same_outputs(module, load(path))


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counted[str(function)] += 1
        return function(*args, **(kwargs or {}))


def operations(module):
    with Operations() as seen:
        outputs(module)
    return seen.counted


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_grown_it_is_the_method_built_that_large(size, decay):
    grown, plain = make(averaging_decay=decay), make(first_size=size, averaging_decay=decay, seed=1)
    assert plain.image_shape == (3, size, size)
    while grown.image_size < size:
        grown.finish_growth()
        grown.grow(2 * grown.image_size)
    grown.set_fade(1.0)
    fading, faded = outputs(grown), operations(grown)
    grown.finish_growth()
    assert (grown.fading, grown.fade) == (False, 1.0)
    for name, value in outputs(grown).items():
        assert torch.equal(value, fading[name]), name
    assert sorted(name for name, _ in grown.named_modules()) == sorted(name for name, _ in plain.named_modules())
    shapes = [{name: v.shape for name, v in each.state_dict().items()} for each in (grown, plain)]
    assert shapes[0] == shapes[1]
    names = [[name for name, p in each.named_parameters() if p.requires_grad] for each in (grown, plain)]
    assert sorted(names[0]) == sorted(names[1])
    counted = operations(grown)
    assert counted == operations(plain)
    assert faded.total() > counted.total()
    plain.load_state_dict(grown.state_dict())
    assert_same_outputs(plain, grown)


@pytest.mark.parametrize("size", [128, 256])
def test_larger_methods_draw_and_read_images_of_their_size(size):
    module = make(first_size=size)
    assert module.sample(2, generator=torch.Generator().manual_seed(0)).shape == (2, 3, size, size)
    assert module.reconstruct(pictures(size), attributes).shape == (2, 3, size, size)
    with pytest.raises(ValueError, match=f"images must be {size}x{size} or a whole number of times that, got 64x64"):
        module.encode(pictures(64))
