"""Gradients through patches of other packs that modify tensors in place, draw random numbers, or change sizes."""

import pytest
import torch
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_tomesd import TomePatchModel
from likeness.patching.host.frozen_autograd import gradient
from likeness.tests.patching.host.gradients import (
    CHECKPOINTED,
    SIGMA,
    Features,
    error,
    inference_model,
    noisy,
    ordinary,
    ordinary_model,
    ours,
    sampling,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def in_place(h):
    half = h.shape[1] // 2
    h[:, :half] = h[:, :half] * (1 + h.mean(1, keepdim=True))
    return h


def out_of_place(h):
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * (1 + h.mean(1, keepdim=True)), h[:, half:]], 1)


def parts_in_place(h):
    first, _ = h.chunk(2, 1)
    first *= 1 + h.mean()
    return h


def parts_out_of_place(h):
    first, second = h.chunk(2, 1)
    return torch.cat([first * (1 + h.mean()), second], 1)


PAIRS = pytest.mark.parametrize(
    ("changes", "equal"), [(in_place, out_of_place), (parts_in_place, parts_out_of_place)], ids=["slice", "chunk"]
)


def after_blocks(change):
    model = inference_model()
    model.set_model_output_block_patch(lambda h, skip, options: (change(h), skip))
    return model


def inside_blocks(change):
    """A change of what the attention of a block has saved, before other tensors are saved."""
    model = inference_model()

    def attend(q, k, v, options):
        scores = (q @ k.transpose(1, 2) / 8).softmax(-1)
        out = scores @ v
        return change(out * out.mean())

    for number in (4, 7):
        model.set_model_attn1_replace(attend, "input", number)
    return model


@pytest.mark.parametrize("place", [after_blocks, inside_blocks])
@PAIRS
@CHECKPOINTED
def test_a_change_in_place_has_the_gradient_of_its_equal(place, changes, equal, checkpointed):
    x = noisy(2)
    found, expected = (ours(place(change), x, checkpointed=checkpointed) for change in (changes, equal))
    assert found.mutable and not expected.mutable
    assert error(found.latents, expected.latents) < 1e-5


def slope_error(model, x, checkpointed):
    """Relative error of the gradient along one direction, against a difference of two losses."""
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    found = ours(model, x, checkpointed=checkpointed).latents

    def loss(latents):
        features = Features()
        with sampling(model, latents) as conds:
            sigma = torch.full([len(x)], SIGMA)
            return gradient(
                model.model, conds, latents, sigma, features.options(model), loss=features.loss, node="Node"
            ).losses.double()

    h = 0.02
    difference = float((loss(x + h * direction) - loss(x - h * direction)).sum() / (2 * h))
    return abs(float((found * direction).sum()) / difference - 1)


@CHECKPOINTED
def test_the_gradient_through_freeu(checkpointed):
    assert slope_error(FreeU_V2.execute(inference_model(), 1.3, 1.4, 0.9, 0.2)[0], noisy(), checkpointed) < 0.02


@CHECKPOINTED
def test_the_gradient_through_layers_of_another_size(checkpointed):
    def shrunk(model):
        return PatchModelAddDownscale.execute(model, 3, 2.0, 0.0, 1.0, True, "bicubic", "bicubic")[0]

    found = ours(shrunk(inference_model()), noisy(), checkpointed=checkpointed)
    assert not found.mutable
    assert error(found.latents, ordinary(shrunk(ordinary_model()), noisy())) < 1e-5


def test_a_recomputed_block_repeats_its_random_numbers():
    """Token merging draws the places of the tokens that it keeps."""
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        found.append(ours(TomePatchModel.execute(inference_model(), 0.5)[0], noisy(), checkpointed=checkpointed))
        found.append(torch.rand(1))
    assert error(found[2].latents, found[0].latents) < 1e-5
    assert torch.equal(found[3], found[1])


def test_only_a_change_in_place_costs_a_second_pass():
    calls = []

    def counted(change):
        def act(h):
            calls.append(1)
            return change(h)

        return act

    ours(after_blocks(counted(out_of_place)), noisy())
    once = len(calls)
    ours(after_blocks(counted(in_place)), noisy())
    assert len(calls) == 3 * once
    ours(after_blocks(counted(in_place)), noisy(), mutable=True)
    assert len(calls) == 4 * once


def test_a_change_without_a_gradient_is_refused_in_one_sentence():
    model = inference_model()

    def unbound(h, skip, options):
        next(iter(h.unbind(0))).mul_(2)
        return h, skip

    model.set_model_output_block_patch(unbound)
    with pytest.raises(ValueError, match=r"^Node: expected a model through which there is a gradient, got one"):
        ours(model, noisy(2))
