"""Training of joint models: the widened network, the draws of a step, and Tinyland's own model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from likeness.demo.training import command, denoiser, loop
from likeness.demo.training.jedi import scenes, tinyland
from likeness.demo.training.jedi.network import FIRST_LAYER, JointCall, draw_missing, weight_on
from likeness.demo.world.subjects import HELD_OUT, SUBJECTS
from likeness.kernels.jedi import MASK_FIRST
from likeness.lab.joint.command import main
from likeness.lab.joint.recomputed import recomputed
from likeness.patching.jedi.format import METADATA_KEY, JointFormat
from likeness.patching.tinyland.weights import read_weights
from likeness.tests.demo.training.black_pool import BlackPool

CPU = torch.device("cpu")
T = torch.tensor


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def vanilla():
    """Denoiser with random weights, none of them zero."""
    torch.manual_seed(0)
    model = denoiser.Denoiser(CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def call(unet, missing: list[float], members: int, seed: int = 1) -> torch.Tensor:
    """Prediction of the joint network for three noisy latents."""
    generator = torch.Generator().manual_seed(seed)
    noisy, clean, context = (
        torch.randn(3, *shape, generator=generator) for shape in ((4, 16, 16), (4, 16, 16), (24, 128))
    )
    return JointCall(unet, clean, T(missing), members, {})(noisy, T([3.0, 500.0, 900.0]), context)


def test_before_training_one_member_is_what_the_vanilla_model_predicts(vanilla):
    generator = torch.Generator().manual_seed(1)
    noisy, _, context = (torch.randn(3, *shape, generator=generator) for shape in ((4, 16, 16), (4, 16, 16), (24, 128)))
    unet = tinyland.joint_unet(vanilla.unet, CPU)
    wanted = vanilla.unet(noisy, T([3.0, 500.0, 900.0]), context)
    with torch.no_grad():
        assert torch.allclose(call(unet, [1, 0, 1], 1), wanted, atol=1e-5)
        assert not torch.allclose(call(unet, [1, 0, 1], 3), wanted, atol=1e-2)  # members look at each other


def test_gradients_reach_every_input_channel_and_projection(vanilla):
    unet = tinyland.joint_unet(vanilla.unet, CPU)
    loss = denoiser.velocity_loss(
        JointCall(unet, torch.randn(4, 4, 16, 16), T([1.0, 0.0, 0.0, 1.0]), 2, tinyland.attention_options(CPU)),
        torch.randn(4, 4, 16, 16),
        torch.randn(4, 24, 128),
        denoiser.schedule(CPU),
        members=2,
    )
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in unet.named_parameters()}
    assert (gradients[FIRST_LAYER].abs().amax((0, 2, 3)) > 0).all()
    projections = [g for name, g in gradients.items() if "attn1.to_" in name]
    assert projections and all(g is not None and g.abs().max() > 0 for g in projections)


@pytest.mark.parametrize("members", [1, 3])
def test_recomputed_blocks_give_the_same_gradients(vanilla, members):
    unet = tinyland.joint_unet(vanilla.unet, CPU)
    call(unet, [1, 0, 1], members).square().mean().backward()
    wanted = {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}
    unet.zero_grad()
    saved = []
    with (
        recomputed(unet),
        torch.autograd.graph.saved_tensors_hooks(lambda x: (saved.append(x.numel()), x)[1], lambda x: x),
    ):
        result = call(unet, [1, 0, 1], members).square().mean()
        result.backward()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.numel()), x)[1], lambda x: x):
        call(unet, [1, 0, 1], members)
    assert all(
        torch.allclose(p.grad, wanted[name], rtol=1e-4, atol=1e-6)
        for name, p in unet.named_parameters()
        if name in wanted
    )
    assert len(saved) < len(kept) and not any("forward" in layer.__dict__ for layer in unet.modules())


def test_a_set_has_one_noise_level():
    seen = []

    def model(noisy, timesteps, _context):
        seen.append(timesteps)
        return noisy

    torch.manual_seed(0)
    denoiser.velocity_loss(model, torch.zeros(12, 4, 2, 2), torch.zeros(12, 1, 1), denoiser.schedule(CPU), members=3)
    levels = seen[0].view(4, 3)
    assert (levels == levels[:, :1]).all() and len(levels[:, 0].unique()) == 4


def test_what_is_missing_is_drawn_by_halves_and_never_nothing():
    torch.manual_seed(0)
    drawn = draw_missing(4000, 3, CPU).view(4000, 3)
    assert drawn.any(1).all() and set(drawn.unique().tolist()) == {0, 1}
    shares = [(drawn.sum(1) == n).float().mean().item() for n in (1, 2, 3)]
    assert np.allclose(shares, [3 / 7, 3 / 7, 1 / 7], atol=0.04)
    assert (draw_missing(50, 1, CPU) == 1).all()


def test_the_loss_may_be_of_missing_members_alone():
    missing, weight = T([1.0, 0.0]), T([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert weight_on("all", missing) is None and weight_on("all", missing, weight) is weight
    assert torch.equal(weight_on("missing", missing, weight)[:, 0, 0, 0], T([2.0, 0.0]))
    assert torch.equal(weight_on("missing", missing).flatten(), T([2.0, 0.0]))


def test_the_named_subjects_and_what_resembles_them_are_never_trained_on(monkeypatch):
    named = [s.subject for s in (*SUBJECTS.values(), *HELD_OUT.values())]
    drawn = [scenes.subject_of_set(number, 0) for number in range(3000)]
    assert not any(scenes.resembles(subject, other) for subject in drawn for other in named)
    sampled = iter([*named, drawn[0]])
    monkeypatch.setattr(scenes, "sample_subject", lambda _rng: next(sampled))
    assert scenes.subject_of_set.__wrapped__(0, 0) == drawn[0]


def test_a_set_shows_one_subject_in_different_places_and_poses():
    sets = [[scenes.scene_of_set(scenes.VIEWS * n + view, 0) for view in range(scenes.VIEWS)] for n in range(20)]
    for views in sets:
        assert len({s.subject for s in views}) == 1
        assert len({s.place for s in views}) == len({s.pose for s in views}) == len(views)
    assert len({views[0].subject for views in sets}) == 20


def test_a_step_draws_sets_of_one_size_with_captions_of_their_own_scenes():
    steps = [tinyland.drawn_sets(step) for step in range(400)]
    sizes = [members for _, members, _ in steps]
    assert [np.mean([s == size for s in sizes]) for size in tinyland.SIZES] == pytest.approx(tinyland.SHARES, abs=0.07)
    dropped = []
    for indices, members, rng in steps[:60]:
        assert len(indices) == tinyland.PICTURES
        sets = indices.reshape(-1, members)
        assert (sets // scenes.VIEWS == sets[:, :1] // scenes.VIEWS).all() and all(len(set(s)) == members for s in sets)
        captions = tinyland.set_captions(indices, members, rng)
        empty = np.array([not text for text in captions]).reshape(-1, members)
        assert (empty == empty[:, :1]).all()
        dropped += empty[:, 0].tolist()
        shown = [scenes.scene_of_set(int(i), 0) for i in indices]
        assert all(scene.subject.name in text for scene, text in zip(shown, captions, strict=True) if text)
    assert np.mean(dropped) == pytest.approx(tinyland.TEXT_DROPOUT, abs=0.04)


@pytest.fixture
def quick(monkeypatch, vanilla):
    """Twelve sets of random latents, in steps of four pictures."""
    latents = torch.randn(12 * scenes.VIEWS, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    settings = {
        "SETS": 12,
        "PICTURES": 4,
        "Pool": BlackPool,
        "latents_of": lambda *_arguments: latents,
        "load_denoiser": lambda _device: vanilla,
    }
    for name, value in settings.items():
        monkeypatch.setattr(tinyland, name, value)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(quick, monkeypatch, tmp_path):
    whole = tinyland.train(tmp_path / "whole", 4, None, CPU)
    measured = denoiser.velocity_loss
    left = iter(range(2))

    def stopping(*arguments):
        if next(left, None) is None:
            raise Stopped
        return measured(*arguments)

    monkeypatch.setattr(tinyland, "velocity_loss", stopping)
    # The loop saves by the clock; here, after each step.
    monkeypatch.setattr(
        tinyland, "Trainer", lambda *arguments, **settings: loop.Trainer(*arguments, **settings, save_every=-1.0)
    )
    with pytest.raises(Stopped):
        tinyland.train(tmp_path / "stopped", 4, None, CPU)
    monkeypatch.setattr(tinyland, "velocity_loss", measured)
    resumed = tinyland.train(tmp_path / "stopped", 4, None, CPU)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert whole.get_parameter(FIRST_LAYER)[:, 0].abs().max() > 0  # something was learned at all

    monkeypatch.setattr(tinyland, "weights_digest", lambda: "another-model")
    monkeypatch.setattr(tinyland, "velocity_loss", lambda *_arguments: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):  # what was trained on other weights is not resumed
        tinyland.train(tmp_path / "stopped", 4, None, CPU)


def test_train_joint_writes_a_file_that_says_what_it_is(quick, monkeypatch, tmp_path, vanilla):
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):  # the command sets them for its process
        monkeypatch.setattr(args, name, getattr(args, name))
    monkeypatch.setattr(command, "load_autoencoder", lambda _device: None)
    wanted = denoiser.weights_digest()
    stored = denoiser.stored_weights()
    monkeypatch.setattr(loop, "WEIGHTS", tmp_path)
    main(["joint", "--steps", "1", "--work", str(tmp_path / "work"), "--device", "cpu", "--loss-on", "missing"])
    path = tmp_path / "joint.safetensors"
    tensors, metadata = read_weights(path, METADATA_KEY, base=stored)
    assert JointFormat.of(metadata) == JointFormat(MASK_FIRST)
    assert (
        metadata["denoiser"] == wanted
        and metadata["steps"] == "1"
        and json.loads(metadata["tinyland"]) == {}
        and metadata["commit"]
    )
    assert {key.removeprefix("model.diffusion_model.") for key in tensors} == set(vanilla.unet.state_dict())
    assert {t.dtype for t in tensors.values()} == {torch.float16} and path.stat().st_size < 2**23
    changed = {k.removeprefix("model.diffusion_model."): v for k, v in tensors.items()}
    kept = vanilla.unet.state_dict()
    assert all((changed[k].float() - v).abs().max() < 0.01 for k, v in kept.items() if k != FIRST_LAYER)
    assert tensors["model.diffusion_model." + FIRST_LAYER].shape[1] == 9
