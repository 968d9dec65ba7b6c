"""ST-DIM and each of its options against the released method's double loop over places."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

import lightning_zoo.configs
from lightning_zoo.representation.stdim import STDIM

CONFIGS = Path(lightning_zoo.configs.__file__).parent
STDIM_CONFIGS = sorted(path.stem for path in CONFIGS.glob("stdim*_pong.yaml"))


def random_pairs(batch=3, channels=1):
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 2, channels, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture
def pairs():
    return random_pairs()


def build(seed=0, **options):
    torch.manual_seed(seed)
    return STDIM(**options)


def loop_losses(model, pairs, layer="conv3", asking=1):
    """GL and LL place by place, summed over places, with the matrices written out; frame ``asking`` of a pair asks."""
    frames = pairs.float() / 255
    asking_maps, answering_maps = model.encoder.maps(frames[:, asking]), model.encoder.maps(frames[:, 1 - asking])
    features = model.encoder.linear(asking_maps["conv4"].flatten(1))
    global_scores, local_scores = model.global_scores[layer], model.local_scores[layer]
    asking_map, answering_map = asking_maps[layer], answering_maps[layer]
    own = torch.arange(len(pairs))
    global_local = local_local = 0.0
    for y in range(answering_map.shape[2]):
        for x in range(answering_map.shape[3]):
            answers = answering_map[:, :, y, x]
            predictions = features @ global_scores.weight.T + global_scores.bias
            global_local = global_local + F.cross_entropy(predictions @ answers.T, own)
            predictions = asking_map[:, :, y, x] @ local_scores.weight.T + local_scores.bias
            local_local = local_local + F.cross_entropy(predictions @ answers.T, own)
    return global_local, local_local


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def check_loss(model, terms, expected):
    torch.testing.assert_close(terms["loss"], expected, rtol=1e-4, atol=1e-5)
    fast, slow = gradients(model, terms["loss"]), gradients(model, expected)
    for name in slow:
        torch.testing.assert_close(fast[name], slow[name], rtol=1e-3, atol=1e-5 * float(slow[name].abs().max()) + 1e-9)
    return slow


@pytest.mark.parametrize(
    ("options", "asking", "weights"),
    [
        ({}, 1, (1 / 88, 1 / 88)),
        ({"anchor": "earlier"}, 0, (1 / 88, 1 / 88)),
        ({"reduction": "sum"}, 1, (1, 1)),
        ({"global_local_weight": 0.25}, 1, (0.25 / 88, 0.75 / 88)),
        ({"global_local_weight": 0.25, "reduction": "sum"}, 1, (0.25, 0.75)),
    ],
    ids=["published", "anchor", "sum", "p", "p-sum"],
)
def test_loss_and_gradient_equal_the_double_loop(pairs, options, asking, weights):
    model = build(**options)
    global_local, local_local = loop_losses(model, pairs, asking=asking)
    terms = model.loss(pairs)
    check_loss(model, terms, weights[0] * global_local + weights[1] * local_local)


def test_the_double_loop_tells_the_frames_apart(pairs):
    # Without this the test above would not see a swapped anchor.
    later, earlier = (sum(loop_losses(build(), pairs, asking=asking)) for asking in (1, 0))
    assert abs(later - earlier) / later > 1e-3


def test_terms_are_the_two_objectives(pairs):
    model = build()
    global_local, local_local = loop_losses(model, pairs)
    terms = model.loss(pairs)
    torch.testing.assert_close(terms["global_local_loss"], global_local / 88, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["local_local_loss"], local_local / 88, rtol=1e-4, atol=1e-5)


def test_p_of_one_leaves_the_local_scores_without_gradient(pairs):
    model = build(global_local_weight=1.0)
    terms = model.loss(pairs)
    torch.testing.assert_close(terms["loss"], terms["global_local_loss"])
    assert gradients(model, terms["loss"])["local_scores.conv3.weight"].abs().max() == 0


def test_a_projection_per_place(pairs):
    model = build(per_place_scores=True)
    layers = [torch.nn.Linear(256, 128) for _ in range(88)]
    with torch.no_grad():  # outputs of one place lie side by side: (place, channel)
        for place, layer in enumerate(layers):
            model.global_scores["conv3"].weight[place * 128 : (place + 1) * 128] = layer.weight
            model.global_scores["conv3"].bias[place * 128 : (place + 1) * 128] = layer.bias
    terms = model.loss(pairs)
    frames = pairs.float() / 255
    features = model.encoder(frames[:, 1])
    answers = model.encoder.maps(frames[:, 0])["conv3"].flatten(2)
    own = torch.arange(len(pairs))
    expected = sum(F.cross_entropy(layers[p](features) @ answers[:, :, p].T, own) for p in range(88)) / 88
    torch.testing.assert_close(terms["global_local_loss"], expected, rtol=1e-4, atol=1e-5)


def test_several_layers_sum_their_own_losses(pairs):
    model = build(local_layers=["conv3", "conv4"])
    third, fourth = loop_losses(model, pairs, layer="conv3"), loop_losses(model, pairs, layer="conv4")
    check_loss(model, model.loss(pairs), sum(third) / 88 + sum(fourth) / 54)


@pytest.mark.parametrize("batch", [2, 5])
def test_loss_at_chance(batch):
    model = build()
    for layer in (model.global_scores["conv3"], model.local_scores["conv3"]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    terms = model.loss(random_pairs(batch))
    assert terms["global_local_loss"].item() == pytest.approx(math.log(batch), rel=1e-5)
    assert terms["local_local_loss"].item() == pytest.approx(math.log(batch), rel=1e-5)


def test_identical_frames_are_matched_after_some_steps(pairs):
    model = build(learning_rate=1e-3)
    still = torch.stack([pairs[:, 0], pairs[:, 0]], dim=1)
    optimizer = model.configure_optimizers()
    first = model.loss(still)["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        terms = model.loss(still)
        terms["loss"].backward()
        optimizer.step()
    assert terms["loss"].item() < first / 4
    assert terms["local_local_accuracy"].item() > 0.9


def test_bfloat16_autocast_keeps_the_loss_in_float32(pairs):
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(pairs)
    assert all(value.dtype == torch.float32 for value in terms.values())
    torch.testing.assert_close(terms["loss"], model.loss(pairs)["loss"], rtol=0.05, atol=0.05)
    assert all(gradient.isfinite().all() for gradient in gradients(model, terms["loss"]).values())


def test_encode_takes_bytes_and_floats(pairs):
    model = build()
    frames = pairs[:, 0]
    features = model.encode(frames)
    assert features.shape == (3, 256)
    torch.testing.assert_close(features, model.encode(frames.float() / 255))
    torch.testing.assert_close(features, model.predict_step({"frames": frames}, 0)["features"])


def test_optimizer_is_the_published_one():
    model = build(learning_rate=1e-3)
    (group,) = model.configure_optimizers().param_groups
    assert (group["lr"], group["eps"], group["betas"], group["weight_decay"]) == (1e-3, 1e-5, (0.9, 0.999), 0)
    assert len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_local_weight": 1.5}, r"global_local_weight .* got 1\.5"),
        ({"local_layers": ["conv9"]}, "'conv9' is no map .* conv3"),
        ({"encoder": "impala", "strides": [4, 2, 2, 1]}, "strides can be set for encoder 'nature' alone"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def test_frames_of_another_colour_are_named():
    with pytest.raises(ValueError, match="input_channels=1 but the frames have 3 channels"):
        build().loss(random_pairs(2, channels=3))


def config_model(stem):
    config = yaml.safe_load((CONFIGS / f"{stem}.yaml").read_text())
    return STDIM(**config["model"].get("init_args", {})), config


@pytest.mark.parametrize("stem", STDIM_CONFIGS)
def test_every_config_of_the_study_trains(stem):
    model, config = config_model(stem)
    channels = 3 if config["data"]["init_args"].get("color") == "rgb" else 1
    loss = model.loss(random_pairs(2, channels))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in model.parameters())


def receptive_field(model, layer):
    """Height and width in pixels of what a place of ``layer`` sees, read from which pixels have a gradient."""
    frames = torch.rand(1, 1, 210, 160, requires_grad=True)
    for parameter in model.encoder.layers.parameters():
        torch.nn.init.constant_(parameter, 0.01)  # positive everywhere, so that no ReLU hides a pixel
    model.encoder.maps(frames)[layer][0, 0, 5, 4].backward()
    rows, columns = frames.grad[0, 0].nonzero().T
    return (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)


@pytest.mark.parametrize(
    ("stem", "side"),
    [("stdim", 44), *((f"stdim_receptive_field_{side}", side) for side in (36, 60, 76))],
)
def test_receptive_field_configs_change_what_a_place_sees_on_the_same_grid(stem, side):
    model, _ = config_model(f"{stem}_pong")
    assert model.encoder.map_shapes["conv3"] == (128, 11, 8)
    assert receptive_field(model, "conv3") == (side, side)


@pytest.mark.parametrize(("setting", "grid"), [(8, (128, 21, 15)), (32, (128, 5, 3))])
def test_strides_of_the_study_change_the_grid(setting, grid):
    model, _ = config_model(f"stdim_strides_{setting}_pong")
    assert model.encoder.map_shapes["conv3"] == grid
    assert tuple(model.encoder.maps(torch.zeros(1, 1, 210, 160))["conv3"].shape[1:]) == grid
