"""Where a point looks, on tiny networks: rows of the attention that the run itself computes."""

from dataclasses import replace

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.kernels.attention import attention_probabilities
from likeness.patching.features.correspondences import correspondences
from likeness.patching.features.looking import Looks, Point
from likeness.patching.features.references import References
from likeness.patching.host.attach import patches_of
from likeness.patching.host.blocks import Layer
from likeness.patching.host.passes import run_guider
from likeness.patching.host.window import Window
from likeness.patching.jedi.build import joint_guider
from likeness.patching.layout_and_retouch.settings import APPEND, REPLACE
from likeness.tests.patching.jedi import joint_runs, test_dits
from likeness.tests.patching.layout_and_retouch.retouch_runs import layout, mask, reference, retouched
from likeness.tests.patching.tiny_dits import latent as latent_of_dit
from likeness.tests.patching.tiny_dits import tiny_dit
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler, tiny_model

POINT, LAYER, SIGMA = Point(1, 0.3, 0.8), Layer("output", 9, 0), 1.0
TOKEN = POINT.token((8, 8))


class Seen:
    """An attention override: the plain softmax of one block's self-attention, by the number of its keys."""

    def __init__(self, model, layer: Layer = LAYER):
        self.calls: dict[int, list[torch.Tensor]] = {}
        self.block = (layer.kind, layer.number)
        model.model_options["transformer_options"]["optimized_attention_override"] = self

    def __call__(self, function, q, k, v, heads, *args, **kwargs):
        if kwargs["transformer_options"]["block"] == self.block:
            self.calls.setdefault(k.shape[1], []).append(attention_probabilities(q, k, heads).mean(1))
        return function(q, k, v, heads, *args, **kwargs)


def looked(viewed, guider, samples, point=POINT, layer=LAYER):
    """The maps of one layer in one model call."""
    looks = Looks(point, frozenset([layer]))
    view = viewed.view(guider, samples, looks, "Node")
    run_guider(view.guider, view.samples, [SIGMA], _Once(view.samples))
    (maps,) = looks.maps[layer]
    return maps


class _Once:
    def __init__(self, samples):
        self.samples = samples

    def __call__(self, denoise, clean):
        denoise(clean + SIGMA * torch.ones_like(clean), SIGMA)


def a_set(model, **widgets):
    return joint_runs.guider_of(model, references=[joint_runs.reference(model)], **widgets)


def of_retouch(model):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(model, seed=10), conditioning(model, seed=11))
    guider.set_cfg(4.0)
    return guider


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_row_of_a_set(strength):
    model = tiny_model("sd1")
    seen = Seen(model)
    guider = a_set(model, strength=strength)
    maps = looked(guider, guider, latent(2)["samples"])
    row = seen.calls[192][0][0, 64 + TOKEN]
    if strength < 1:
        own = torch.zeros(192)
        own[64:128] = seen.calls[64][0][1, TOKEN]
        row = torch.lerp(own, row, strength)
    close(torch.stack(maps).flatten(), row)


def test_hidden_tokens_of_a_reference_are_not_looked_at():
    model = tiny_model("sd1")
    half = torch.zeros(8, 8)
    half[:, :4] = 1
    guider = joint_runs.guider_of(model, references=[joint_runs.reference(model, mask=half)])
    own, other, given = looked(guider, guider, latent(2)["samples"], Point(0, 0.3, 0.8))
    assert not given[:, 4:].any() and given[:, :4].all()
    close(own.sum() + other.sum() + given.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("attention", [REPLACE, APPEND])
def test_a_row_of_a_retouch(attention):
    model = tiny_model("sd1")
    seen, shown = Seen(model), torch.zeros(64, 64)
    shown[:, :32] = 1
    given = [reference(model), reference(model, seed=21, mask=shown, weight=1.0)]
    guider = of_retouch(retouched(model, given, attention=attention))
    (patch,) = patches_of(guider.model_patcher)
    first, second, third = looked(patch, guider, latent(2)["samples"])
    keys = 64 + 32 + (64 if attention == APPEND else 0)
    row = seen.calls[keys][0][0, TOKEN]
    borrowed = row[-96:]
    close(first.flatten(), row[:64] if attention == APPEND else torch.zeros(64))
    close(second.flatten(), borrowed[:64])
    close(third[:, :4].flatten(), borrowed[64:])
    assert not third[:, 4:].any()


def test_a_row_of_combined_prompts_is_their_mean():
    model = tiny_model("sd1")
    seen = Seen(model)
    guider = of_retouch(retouched(model, [reference(model)], attention=REPLACE))
    guider.set_conds(conditioning(model, seed=10) + conditioning(model, seed=12), conditioning(model, seed=11))
    (patch,) = patches_of(guider.model_patcher)
    _, found = looked(patch, guider, latent(2)["samples"])
    each = seen.calls[64][-1][:, TOKEN]
    assert len(each) == 2 and not torch.allclose(each[0], each[1], rtol=1e-2)
    close(found.flatten(), each.mean(0))


def test_layout_mask_and_early_steps_are_left_out():
    model = tiny_model("sd1")
    _, path = layout(model)
    options = {"layout": path, "mask": mask(), "early_swap": "fork", "lambda_2": 1, "lambda_3": 2}
    bound = of_retouch(retouched(model, [reference(model)], **options))
    free = of_retouch(retouched(model, [reference(model)]))
    found = [correspondences_of(guider, latent(2), point=POINT).heatmaps for guider in (bound, free)]
    assert torch.equal(*found)


class OfTransformer:
    """An attention override: the softmax of the first block's calls with borrowed keys, in the host's order."""

    def __init__(self, model, queries: int):
        self.rows: list[torch.Tensor] = []
        self.queries = queries
        model.model_options["transformer_options"]["optimized_attention_override"] = self

    def __call__(self, function, q, k, v, heads, *args, **kwargs):
        if q.ndim == 3 and q.shape[1] == self.queries and k.shape[1] > q.shape[1]:
            given = args[0] if args else kwargs.get("mask")
            self.rows.append(attention_probabilities(q, k, heads, given).mean(1))
        return function(q, k, v, heads, *args, **kwargs)


def test_a_row_of_a_transformers_set(dit):
    model = tiny_dit(dit)
    texts, pictures = test_dits.prompts(dit, 2), latent_of_dit(dit, 2)["samples"]
    grid = (8, 8) if dit == "flux2" else (4, 4)
    count = grid[0] * grid[1]
    seen = OfTransformer(model, count)
    guider = joint_guider(
        model,
        prompts=texts,
        negative=test_dits.NEGATIVE,
        references=[References((test_dits.reference(dit),))],
        captions=[],
        widgets=joint_runs.WIDGETS,
        node="Node",
    )
    layer = guider.looking_layers[0]
    if pictures.ndim == 4 and dit in test_dits.WITH_FRAMES:
        pictures = pictures.unsqueeze(2)
    maps = looked(guider, guider, pictures, layer=layer)
    row = seen.rows[1][0, POINT.token(grid)]  # of the second member: its own sequence, then the first and the third
    others = len(row) - 2 * count
    expected = torch.stack([row[others : others + count], row[:count], row[others + count :]])
    close(torch.stack(maps).flatten(1), expected)


def correspondences_of(guider, pictures, point=POINT, **options):
    defaults = {"blocks": "all", "group_by": "size", "window": Window(0.2, 0.8), "levels": 1, "seed": 0}
    return correspondences(guider, pictures, point=point, **{**defaults, **options})


def test_groups_shares_and_the_sheet(family):
    found = correspondences_of(a_set(tiny_model(family)), latent(2), group_by="part", levels=2)
    assert found.heatmaps.shape == (9, 64, 64) and found.heatmaps.amin() == 0 and found.heatmaps.amax() == 1
    assert [line.split(": ")[0] for line in found.shares] == ["encoder", "middle", "decoder"]
    assert found.shares[0].split(": ")[1].split(" ")[:2] == ["picture", "1"] and "reference 1" in found.shares[0]
    assert found.sheet.pixels.shape == (1, 4 * 80, 3 * 64, 3) and found.sheet.numbers == (1, 2, 3)
    ring = found.sheet.pixels[0, 16 + int(0.8 * 64), 64 + int(0.3 * 64) + 3]
    close(ring, torch.tensor([0.3, 1.0, 0.4]))


def test_a_reference_of_another_shape_is_centered():
    model = tiny_model("sd1")
    guider = of_retouch(retouched(model, [reference(model, height=8, width=4)]))
    found = correspondences_of(guider, latent(2), group_by="together")
    assert found.heatmaps.shape == (2, 64, 64) and found.sheet.numbers == (2, 0)
    assert not found.heatmaps[1, :, :16].any() and not found.heatmaps[1, :, 48:].any() and found.heatmaps[1].any()


def test_nothing_is_left_behind():
    model, pictures = tiny_model("sd1"), latent(2)
    guider, plain = a_set(model), joint_runs.run(tiny_model("sd1"))
    before, samples = repr(guider.model_patcher.model_options), pictures["samples"].clone()
    correspondences_of(guider, pictures)
    assert repr(guider.model_patcher.model_options) == before and torch.equal(pictures["samples"], samples)
    assert guider._looks is None and guider._run is None and not guider.original_conds and not model.wrappers
    assert torch.equal(joint_runs.run(tiny_model("sd1")), plain)
    kept = reference(model, kind="noised")
    correspondences_of(of_retouch(retouched(model, [kept], mode="banked")), pictures)
    assert kept.bank.size_in_bytes == 0
    assert torch.equal(run_ksampler(model), run_ksampler(tiny_model("sd1")))


def refused(guider, pictures, message, **options):
    with pytest.raises(ValueError) as error:
        correspondences_of(guider, pictures, **options)
    said = str(error.value)
    assert said.startswith("Where a Point Looks: expected ") and ", got " in said and said.count("\n") == 0
    assert message in said


def test_what_cannot_be_shown_is_refused(monkeypatch):
    def unreachable(*args):
        raise AssertionError("the model was asked")

    monkeypatch.setattr("likeness.patching.features.correspondences.run_guider", unreachable)
    model, pair = tiny_model("sd1"), latent(2)
    retouch, joint = of_retouch(retouched(model, [reference(model)])), a_set(model)
    refused(joint, pair, "picture from 1 to 3, got 4; change picture", point=replace(POINT, picture=3))
    refused(retouch, pair, "picture from 1 to 2, got 3; change picture", point=replace(POINT, picture=2))
    refused(joint, latent(3), "the 2 pictures that this guider has made, got 3")
    area = of_retouch(retouch.model_patcher)
    area.original_conds["positive"][0]["area"] = (8, 4, 0, 0)
    refused(area, pair, "got one for an area")
    refused(of_retouch(model), pair, "got none of either; connect such a guider")
    refused(a_set(model, strength=0.0), pair, "set strength above 0")
    refused(a_set(model, blocks="decoder"), pair, "(output3, ", blocks="encoder")
    refused(a_set(model, end_percent=0.3), pair, "inside those of Joint Image Sampler, 0 to 0.3, got 0.2 to 0.8")
    refused(joint, {"samples": torch.zeros(2, 4, 8, 8)}, "an empty one")


def test_a_model_that_is_not_called_is_told():
    model = tiny_model("sd1")
    model.add_wrapper(WrappersMP.APPLY_MODEL, lambda executor, x, *args, **kwargs: x)
    refused(a_set(model), latent(2), "expected the model to reach output9", blocks="output9")
