"""Attributes by name, the bank of the training data's combinations, and drawing by them."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_zoo import ACVAEGAN, ConditionalGAN, ConditionalVAE, load
from lightning_zoo.generative.attribute_conditioning import BANK_SIZE, AttributeConditioned
from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES

NAMES = ("Bald", "Eyeglasses", "Male", "Smiling")
SMALL = {"attribute_names": NAMES, "base_channels": 2, "latent_channels": 8}
METHODS = {
    "ConditionalVAE": lambda: ConditionalVAE(**SMALL),
    "ConditionalGAN": lambda: ConditionalGAN(**SMALL),
    "ACVAEGAN": lambda: ACVAEGAN(**SMALL, num_steps=8, hidden_size=4, num_layers=1),
}
ROWS = 3000


class Bare(AttributeConditioned):
    """The mixin and nothing else."""

    device = torch.device("cpu")

    def __init__(self, names=NAMES):
        super().__init__()
        self.number = self.condition(names)


class Data(L.LightningDataModule):
    """Row i has the digits of i as its attributes, so that a row tells where it comes from."""

    def __init__(self, names=NAMES, rows=ROWS):
        super().__init__()
        self.attribute_names = list(names)
        self.digits = (torch.arange(rows)[:, None] >> torch.arange(len(names)) & 1).to(torch.int8) * 2 - 1
        self.asked = []

    def attributes_of(self, split):
        self.asked.append(split)
        return self.digits

    def train_dataloader(self):
        images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        return DataLoader([{"images": images, "attributes": self.digits[:4]}], batch_size=None)


def set_up(module, data, stage="fit"):
    module.trainer = SimpleNamespace(datamodule=data)
    module.setup(stage)
    return module


@pytest.fixture(params=METHODS)
def method(request):
    torch.manual_seed(0)
    made = METHODS[request.param]()
    # As it is initialised all images are grey; one batch's statistics bring them apart.
    made.train().decode(torch.randn(32, *made.latent_shape), torch.randint(0, 2, (32, len(NAMES))) * 2 - 1)
    made.eval()
    # Half of all combinations, so that one that was never seen tells.
    rows = torch.arange(BANK_SIZE) % 8
    made.attribute_bank.copy_((rows[:, None] >> torch.arange(len(NAMES)) & 1) * 2 - 1)
    return made


@pytest.fixture
def asked():
    return torch.tensor([[1, -1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 0]], dtype=torch.int8)


def test_names():
    assert Bare().number == len(NAMES)
    assert Bare(list(NAMES)).attribute_names == NAMES
    assert len(set(CELEBA_ATTRIBUTES)) == 40
    assert not Bare().attribute_bank.any(), "nothing was seen yet"
    with pytest.raises(ValueError, match="attribute_names is empty"):
        Bare(())
    with pytest.raises(ValueError, match="attribute_names has 'Male' more than once"):
        Bare(("Male", "Bald", "Male"))


def test_data_have_to_have_attributes():
    with pytest.raises(ValueError, match=r"Bare draws by attributes and the data \(SimpleNamespace\) have none"):
        set_up(Bare(), SimpleNamespace(attribute_names=[]))
    with pytest.raises(ValueError, match=r"the data \(LightningDataModule\) have none"):
        set_up(Bare(), L.LightningDataModule())


def test_an_unknown_attribute_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"attribute_names: Data has no 'Smile'; the nearest: Smiling"):
        set_up(Bare(("Male", "Smile")), Data())
    with pytest.raises(ValueError, match=r"attribute_names: Data has no 'qqq'$"):
        set_up(Bare(("qqq",)), Data())


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("names", [NAMES, ("Smiling", "Male", "Eyeglasses", "Bald"), ("Male", "Bald"), ("Smiling",)])
def test_columns_are_found_by_name_in_every_stage(names, stage):
    data = Data()
    module = set_up(Bare(names), data, stage)
    found = module.attributes_of({"attributes": data.digits})
    assert found.dtype == torch.float32
    columns = [data.digits[:, data.attribute_names.index(name)].float() for name in names]
    assert torch.equal(found, torch.stack(columns, 1))


def test_without_a_datamodule_the_columns_are_taken_as_they_are():
    module = set_up(Bare(), None)
    batch = {"attributes": torch.tensor([[1, -1, 0, 1]])}
    assert module.attributes_of(batch).tolist() == [[1, -1, 0, 1]]
    with pytest.raises(ValueError, match=r"attributes must be \(B, 4\), got \(1, 3\)"):
        module.attributes_of({"attributes": torch.ones(1, 3)})


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=rf"attributes must be \(B, 4\), got \({', ?'.join(map(str, shape))},?\)"):
        Bare().checked(torch.ones(shape))


def test_a_batch_without_attributes():
    with pytest.raises(ValueError, match="the batch has images, labels but no attributes"):
        Bare().attributes_of({"labels": torch.ones(1), "images": torch.ones(1)})


def test_the_bank_is_spread_over_the_training_split():
    names = [f"digit_{number}" for number in range(12)]
    data = Data(names)
    bank = set_up(Bare(names), data).attribute_bank
    assert data.asked == ["train"]
    assert bank.dtype == torch.int8
    places = ((bank == 1).long() << torch.arange(12)).sum(1)
    steps = places.diff()
    # Evenly: never further from the next than 3000 / 1024 allows, from the first row to the last ones.
    assert (int(places[0]), int(places[-1])) >= (0, ROWS - 3)
    assert set(steps.tolist()) == {2, 3}


def test_fewer_images_than_the_bank_has_rows_come_alike_often():
    names = ("a", "b", "c", "d")
    bank = set_up(Bare(names), Data(names, rows=10)).attribute_bank
    _, counts = bank.unique(dim=0, return_counts=True)
    assert len(counts) == 10
    assert set(counts.tolist()) == {102, 103}


def test_the_bank_has_the_methods_columns_and_is_of_training_alone():
    data = Data()
    bank = set_up(Bare(("Smiling", "Bald")), data).attribute_bank
    assert torch.equal(bank, data.digits[torch.arange(BANK_SIZE) * ROWS // BANK_SIZE][:, [3, 0]])
    module = Bare()
    module.attribute_bank.fill_(1)
    assert set_up(module, data, "test").attribute_bank.all(), "only fitting replaces it"
    assert (module.attribute_bank == 1).all()


def test_the_bank_goes_with_the_checkpoint(tmp_path):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=1, enable_checkpointing=False, **quiet)
    module, data = ConditionalVAE(**SMALL | {"attribute_names": ("Male", "Bald")}), Data()
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = load(tmp_path / "a.ckpt")
    assert loaded.attribute_names == ("Male", "Bald")
    assert torch.equal(loaded.attribute_bank, data.digits[torch.arange(BANK_SIZE) * ROWS // BANK_SIZE][:, [2, 0]])


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def test_the_draw_is_mean_and_deviation(method, asked):
    mean, log_variance = method.prior(asked)
    noise = torch.randn(3, *method.latent_shape, generator=seeded())
    for truncation in (0.0, 0.5, 1.0):
        expected = mean + truncation * log_variance.exp().sqrt() * noise
        torch.testing.assert_close(method.draw(asked, truncation=truncation, generator=seeded()), expected)


def test_samples_are_decoded_draws(method, asked):
    images = method.sample(3, attributes=asked, truncation=0.7, generator=seeded())
    latent = method.draw(asked, truncation=0.7, generator=seeded())
    torch.testing.assert_close(images, method.decode(latent, asked))
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad


def test_truncated_to_nothing_each_image_is_its_priors_mean(method, asked):
    images = method.sample(3, attributes=asked, truncation=0.0, generator=seeded())
    for image, one in zip(images, asked, strict=True):
        expected = method.decode(method.prior(one[None])[0], one[None])[0]
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(images[0], images[1], atol=1e-5)


def test_one_combination_is_for_all_images(method, asked):
    drawn = method.sample(3, attributes=asked[0], generator=seeded())
    assert torch.equal(drawn, method.sample(3, attributes=asked[:1].repeat(3, 1), generator=seeded()))


def test_the_generator_alone_decides(method):
    before = torch.get_rng_state()
    drawn = [method.sample(2, generator=seeded(seed)) for seed in (3, 3, 4)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-5)


def test_without_attributes_combinations_are_drawn_from_the_bank(method):
    seen = []
    method.draw, draw = lambda a, **given: seen.append(a) or draw(a, **given), method.draw
    method.sample(64, generator=seeded())
    drawn = {tuple(row) for row in seen[0].tolist()}
    assert drawn <= {tuple(row) for row in method.attribute_bank.tolist()}
    # 64 draws of 8 kinds miss one with probability below 8 (7 / 8)^64 = 0.002.
    assert len(drawn) == 8


@pytest.mark.parametrize("shape", [(2, 4), (4, 4), (5,), (3, 5)])
def test_as_many_combinations_as_images(shape):
    with pytest.raises(ValueError, match="attributes must be|attributes of 3 images must be"):
        METHODS["ConditionalVAE"]().sample(3, attributes=torch.ones(shape))


def test_unknown_attributes_are_zeros(method):
    latent = torch.randn(2, *method.latent_shape, generator=seeded())
    unknown = method.decode(latent)
    assert torch.equal(unknown, method.decode(latent, torch.zeros(2, 4)))
    assert not torch.allclose(unknown, method.decode(latent, torch.ones(2, 4)), atol=1e-6)


def test_attributes_by_name():
    torch.manual_seed(0)
    model = ConditionalVAE(attribute_names=["Male", "Smiling", "Young"], base_channels=2, latent_channels=8)
    assert model.named("Smiling", "-Male").tolist() == [-1, 1, 0]
    with pytest.raises(ValueError, match="ConditionalVAE has no 'Smilling'; the nearest: Smiling"):
        model.named("Smilling")
    with pytest.raises(ValueError, match=r"must be a tensor \(B, 3\) of -1 and \+1, got list; `named` makes one"):
        model.sample(2, attributes=["Smiling"])
    images = model.eval().sample(2, attributes=model.named("Smiling"))
    assert images.shape == (2, 3, 64, 64)
