"""Statics and dynamics: eq. 7.3 to 7.5 the slow way, which weights each of them reaches, and what the method offers."""

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from video_toy import DECOMPOSITION, MovingSquares, fitted, moving_squares, shaken, trainer, used_to

from lightning_zoo.checkpoints import load
from lightning_zoo.gradients import average_gradients, set_gradients
from lightning_zoo.losses.video import contrastive_prediction, frame_error
from lightning_zoo.networks.statics_dynamics import best_frame, repeated
from lightning_zoo.video.statics_dynamics import StaticsDynamics

PARTS = {
    "trunk": "networks.video.trunk.",
    "statics head": "networks.video.statics_head.",
    "last stage": "networks.video.last_stage.",
    "dynamics head": "networks.video.dynamics_head.",
    "f_enc": "networks.frame_encoder.",
    "f_dec": "networks.frame_decoder.",
    "f_auto": "networks.predictor.",
    "g_enc": "transformer.encoder.",
    "T": "transformer.transformer.",
    "g_dec": "transformer.decoder.",
}
REACHED = {
    "statics": {"trunk", "statics head"},
    "frame": {"f_enc", "f_dec"},
    "contrastive": {"trunk", "last stage", "dynamics head", "f_auto"},
}
"""Not g_enc, T and g_dec, though the statics' gradients come through the latter two."""


def pixels(number=3, **options):
    return moving_squares(number, **options) / 255


def made(**options):
    """With networks in which everything counts."""
    torch.manual_seed(0)
    module = shaken(StaticsDynamics(**(DECOMPOSITION | {"transformer_epochs": 0} | options)))
    clips = pixels(6, channels=module.frame_shape[0])
    with torch.no_grad():
        module.networks.frame_encoder.layers[-1].weight *= 5
    return used_to(module, lambda: module.losses(clips))


def gradients(loss, module, prefix=""):
    names = dict(module.named_parameters(prefix))
    found = torch.autograd.grad(loss, names.values(), allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None and g.abs().max() > 0}


def assert_equal_gradients(found, expected):
    assert found.keys() == expected.keys() != set()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=2e-4 * values.abs().max().item(), msg=name)


def only(term, **options):
    weights = {f"{name}_weight": float(name == term) for name in REACHED}
    return made(**(weights | options))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("feedback", ["predicted", "true"])
@pytest.mark.parametrize("term", REACHED)
def test_which_weights_a_loss_reaches(term, feedback, training):
    module = only(term, feedback=feedback)
    assert {name for name, _ in module.named_parameters() if not name.startswith(tuple(PARTS.values()))} == set()
    module.networks.train(training)
    module.transformer.eval()
    found = gradients(module.losses(pixels())[0], module)
    for part, prefix in PARTS.items():
        names = {name for name, _ in module.named_parameters() if name.startswith(prefix)}
        reached = {name for name in found if name.startswith(prefix)}
        assert names
        assert reached == (names if part in REACHED[term] else set()), part


def three_passes(module, clips):
    """Section 7.4.1 literally: a backward pass for each loss, all from the start, detached between them by hand."""
    networks, transformer, weights = module.networks, module.transformer, module.hparams
    names = dict(networks.named_parameters())
    summed = {name: torch.zeros_like(values) for name, values in names.items()}

    def backward(loss):
        for name, gradient in zip(names, torch.autograd.grad(loss, names.values(), allow_unused=True), strict=True):
            summed[name] += 0 if gradient is None else gradient

    statics, _ = networks.video(clips)
    targets = torch.stack([transformer.encoder(frame) for frame in clips.unbind(1)], 1).detach()
    errors = [
        frame_error(transformer.decoder(transformer.warped(statics, targets[:, t])), clips[:, t]) for t in range(8)
    ]
    backward(weights["statics_weight"] * sum(errors) / 8)
    fixed = networks.video(clips)[0].detach()
    p = networks.frame_dynamics(clips, fixed)
    backward(weights["frame_weight"] * frame_error(networks.draw(p, fixed), clips))
    p = networks.frame_dynamics(clips, fixed).detach()
    _, dynamics = networks.video(clips)
    contrast, _ = contrastive_prediction(networks.predictor(p, dynamics), p[:, 1:])
    backward(weights["contrastive_weight"] * contrast)
    return summed


def test_one_backward_pass_is_the_three_of_the_thesis():
    module = made(statics_weight=0.8, frame_weight=0.4, contrastive_weight=30.0).train()
    assert not module.transformer.training
    clips = pixels()
    loss, _ = module.losses(clips)
    found = torch.autograd.grad(loss, list(module.networks.parameters()))
    names = [name for name, _ in module.networks.named_parameters()]
    assert_equal_gradients(dict(zip(names, found, strict=True)), three_passes(module, clips))


def one_frame(module, clips, draw):
    """Mean over clips and steps of the squared error of frames that are drawn one at a time."""
    total = 0.0
    for number, clip in enumerate(clips):
        for step, frame in enumerate(clip):
            total = total + (draw(number, step, frame[None])[0] - frame).square().sum()
    return total / (len(clips) * clips.shape[1])


def slow_statics(module, clips):
    """Eq. 7.3."""
    transformer = module.transformer
    statics = [module.networks.video(clip[None])[0] for clip in clips]

    def draw(number, step, frame):
        theta = transformer.transformer(statics[number], transformer.encoder(frame).detach())
        return transformer.decoder(transformer.transformer.warp(statics[number], theta))

    return one_frame(module, clips, draw)


def slow_frames(module, clips):
    """Eq. 7.4."""
    networks = module.networks
    statics = [networks.video(clip[None])[0].detach() for clip in clips]

    def draw(number, step, frame):
        return networks.frame_decoder(networks.frame_encoder(frame, statics[number]), statics[number])

    return one_frame(module, clips, draw)


def slow_contrastive(module, clips):
    """Eq. 7.5, its mean."""
    networks, predicted, own = module.networks, [], []
    for clip in clips:
        statics, dynamics = networks.video(clip[None])
        p = [networks.frame_encoder(frame[None], statics).detach() for frame in clip]
        state, last = None, p[0]
        for step in range(1, len(clip)):
            state = networks.predictor.cell(torch.cat([last, dynamics], 1), state)
            last = networks.predictor.output(state[0])
            predicted.append(last[0])
            own.append(p[step][0])
    total = 0.0
    for query, key in zip(predicted, own, strict=True):
        total = total - torch.log((query @ key).exp() / sum((query @ other).exp() for other in own))
    return total / len(own)


SLOW = {"statics": slow_statics, "frame": slow_frames, "contrastive": slow_contrastive}


@pytest.mark.parametrize("term", SLOW)
def test_losses_frame_by_frame(term):
    module, clips = only(term).eval(), pixels(2)
    loss, terms = module.losses(clips)
    expected = SLOW[term](module, clips)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms[term], loss.detach())
    assert_equal_gradients(gradients(loss, module), gradients(expected, module.networks, "networks"))


def test_terms_add_up_to_the_loss():
    weights = {"statics_weight": 0.3, "frame_weight": 0.2, "contrastive_weight": 0.7, "anchor_weight": 0.9}
    module = made(**weights).eval()
    loss, terms = module.losses(pixels())
    torch.testing.assert_close(loss, sum(weights[f"{name}_weight"] * terms[name] for name in (*REACHED, "anchor")))
    assert {"loss", "contrastive_accuracy", "dynamics_norm"} <= terms.keys()
    assert not any(value.requires_grad for value in terms.values())
    p = module.frame_dynamics(pixels(), module.statics(pixels()))
    torch.testing.assert_close(terms["dynamics_norm"], p.detach().square().sum(2).sqrt().mean())


def slow_best_frame(features, transformer):
    best = []
    for clip in features:
        errors = []
        for source in clip:
            warped = [transformer.warped(source[None], target[None])[0] for target in clip]
            errors.append(sum((w - t).square().sum().item() for w, t in zip(warped, clip, strict=True)))
        best.append(clip[errors.index(min(errors))])
    return torch.stack(best)


def test_the_anchor_is_the_frame_that_warps_best():
    module = made(statics_weight=0.0, frame_weight=0.0, contrastive_weight=0.0, anchor_weight=0.5).eval()
    features = torch.randn(6, 8, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    features *= torch.linspace(1, 2, 8).view(8, 1, 1, 1)
    expected = slow_best_frame(features, module.transformer)
    places = [(clip == best).flatten(1).all(1).nonzero().item() for clip, best in zip(features, expected, strict=True)]
    assert len(set(places)) > 1, "otherwise always the same frame would do"
    assert torch.equal(best_frame(features, module.transformer), expected)
    clips = pixels()
    loss, _ = module.losses(clips)
    anchor = slow_best_frame(module.transformer.encode(clips), module.transformer).detach()
    slow = 0.5 * (module.statics(clips) - anchor).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(loss, slow)
    assert_equal_gradients(gradients(loss, module), gradients(slow, module))


def test_in_warm_up_statics_learn_to_be_the_mean_of_the_features():
    weights = {"statics_weight": 0.3, "frame_weight": 0.0, "contrastive_weight": 0.0}
    module, clips = made(**weights, warm_up_epochs=1).train(), pixels()
    loss, terms = module.losses(clips)
    features = torch.stack([module.transformer.encoder(frame) for frame in clips.unbind(1)])
    slow = (module.networks.video(clips)[0] - (sum(features) / 8).detach()).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(loss, slow, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(terms["warm_up"], slow.detach())
    assert_equal_gradients(gradients(loss, module), gradients(slow, module))
    assert "warm_up" not in module.eval().losses(clips)[1], "validation is by the losses themselves"


def _of_a_process(rank, folder, clips):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    module = made(contrastive_weight=30.0).eval()
    parameters = list(module.networks.parameters())
    loss, _ = module.losses(clips.chunk(2)[rank])
    set_gradients(parameters, torch.autograd.grad(loss, parameters))
    average_gradients(parameters)
    torch.save([loss.detach(), {n: p.grad for n, p in module.networks.named_parameters()}], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one_on_the_joint_batch(tmp_path):
    clips = pixels(4)
    mp.start_processes(_of_a_process, args=(str(tmp_path), clips), nprocs=2, start_method="fork")
    (first, found), (second, same) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    module = made(contrastive_weight=30.0).eval()
    loss, _ = module.losses(clips)
    torch.testing.assert_close((first + second) / 2, loss.detach(), rtol=1e-4, atol=1e-4)
    parameters = dict(module.networks.named_parameters())
    joint = torch.autograd.grad(loss, parameters.values())
    assert_equal_gradients(found, dict(zip(parameters, joint, strict=True)))
    assert_equal_gradients(same, found)


@pytest.mark.parametrize("options", [{}, {"pixels": "signed", "frame_channels": 3}])
def test_what_it_offers(options):
    module, channels = made(**options).eval(), options.get("frame_channels", 1)
    clips, others = (moving_squares(2, channels=channels, seed=seed) for seed in (0, 1))
    features = module.features(clips)
    statics = module.statics(clips)
    assert {name: values.shape for name, values in features.items()} == {"dynamics": (2, 6), "statics": (2, 16)}
    assert module.feature_size == 6
    torch.testing.assert_close(features["statics"], statics.flatten(1))
    assert torch.equal(module(clips), features["dynamics"])
    assert torch.equal(module.encode(clips / 255), features["dynamics"])
    p = module.frame_dynamics(clips, statics)
    assert p.shape == (2, 8, 5)
    swapped, warped, shown = module.swap(clips, others), module.warp(clips), module.decode_statics(statics)
    for frames, shape in ((swapped, clips.shape), (warped, clips.shape), (shown, clips[:, 0].shape)):
        assert frames.shape == shape
        assert 0 <= frames.min() < frames.max() <= 1
    torch.testing.assert_close(module.swap(clips, clips), module.decode(p, statics))
    other = module.frame_dynamics(others, module.statics(others))
    torch.testing.assert_close(swapped, module.decode(other, statics), msg="statics of the first, dynamics of others")
    assert not torch.allclose(swapped, module.swap(others, clips))
    inside = clips / 127.5 - 1 if options else clips / 255
    transformer = module.transformer
    drawn = transformer.decode(transformer.warped(repeated(statics, 8), transformer.encode(inside)))
    torch.testing.assert_close(warped, (drawn + 1) / 2 if options else drawn)
    raw = transformer.decoder(statics)
    torch.testing.assert_close(shown, (raw + 1) / 2 if options else raw)


@pytest.mark.parametrize("offer", ["features", "statics", "encode", "warp"])
def test_clips_of_another_length_are_refused(offer):
    with pytest.raises(ValueError, match=r"clips must be \(B, 8, C, H, W\), got \(2, 7, 1, 16, 16\)"):
        getattr(made(), offer)(moving_squares(2, num_frames=7))


def test_clips_are_long_enough_to_predict_a_frame():
    with pytest.raises(ValueError, match="^num_frames must be at least 2 for one to be predicted, got 1$"):
        made(num_frames=1)


def test_a_checkpoint_is_loaded_and_predicts(tmp_path):
    torch.manual_seed(0)
    module = StaticsDynamics(**DECOMPOSITION, transformer_epochs=1)
    fitted(module, max_epochs=2).save_checkpoint(tmp_path / "both.ckpt")
    again, data = load(tmp_path / "both.ckpt"), MovingSquares(rows=6)
    assert not again.training
    batches = trainer().predict(again, data)
    expected = module.eval().features(data.clips["val"])
    for name in ("dynamics", "statics"):
        torch.testing.assert_close(torch.cat([batch[name] for batch in batches]), expected[name])
