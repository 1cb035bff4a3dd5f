"""Guidance and templates where a step or a model call covers a part of the run: windows, areas, regions, tiles."""

import inspect
import math

import pytest
import torch
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_tomesd import TomePatchModel
from likeness.patching.pick_and_draw.build_template import draw_template
from likeness.patching.pick_and_draw.loss_plot import plot
from likeness.patching.pick_and_draw.parts import Part
from likeness.patching.pick_and_draw.previews import preview_template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    PROMPT,
    SIDE,
    encoded,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
    template,
)
from likeness.tests.patching.tiny_models import latent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]


def windowed(model, dim=0, anchor=True, length=2):
    # Older hosts have no anchor.
    known = "causal_window_fix" in inspect.signature(ContextWindowsManualNode.execute).parameters
    fix = {"causal_window_fix": anchor} if known else {}
    return ContextWindowsManualNode.execute(
        model, length, 1, "standard_static", 1, False, "pyramid", dim, False, **fix
    )[0]


@pytest.mark.parametrize("anchor", [False, True])
def test_context_windows_over_the_batch_guide_each_image_by_its_own_layout(anchor):
    model, noise = model_of(), noise_of(3, 4, 5, 6)
    given, layout = palette(model), template(model, batch=4)
    expected, whole = (lambda made: (sampled(made[0], noise=noise), made[1]))(guided(model, given, layout))
    patched, log = guided(windowed(model, anchor=anchor), given, layout)
    assert relative(sampled(patched, noise=noise), expected) < 1e-4
    assert len(log.entries) == len(whole.entries)
    for (_, found), (_, losses) in zip(log.entries, whole.entries, strict=True):
        torch.testing.assert_close(found, losses, rtol=1e-3, atol=1e-5)
    assert torch.isfinite(plot(log, 4)).all()


def test_a_template_recorded_in_context_windows_has_every_image():
    found, expected = template(windowed(model_of()), batch=4), template(model_of(), batch=4)
    assert found.images == 4
    for layer, levels in expected.maps.items():
        for sigma, maps in levels.items():
            torch.testing.assert_close(found.maps[layer][sigma], maps, rtol=1e-3, atol=1e-5)


def test_context_windows_over_the_picture_are_guided_by_their_part_of_the_layout():
    model = windowed(model_of(), dim=3, length=8)
    patched, log = guided(model, palette(model_of()), recorded())
    found = sampled(patched)
    assert torch.isfinite(found).all() and relative(found, sampled(model)) > 0.01
    assert len(log.entries) == 6  # three windows per step
    with pytest.raises(ValueError, match=r"^Layout Template: expected model calls with the whole picture"):
        template(model)


def test_tiles_are_refused_with_their_cause():
    def tiled(apply, given):
        x = given["input"]
        half = x.shape[-1] // 2
        tiles = torch.cat([x[..., :half], x[..., half:]])
        c = {k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v for k, v in given["c"].items()}
        out = apply(tiles, torch.cat([given["timestep"]] * 2), **c)
        return torch.cat(out.chunk(2), -1)

    model = model_of()
    model.set_model_unet_function_wrapper(tiled)
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected model calls on 1 latents of 16 x 16.*in tiles"):
        sampled(guided(model, None, recorded())[0])
    with pytest.raises(ValueError, match=r"^Layout Template: .*Tiled Diffusion"):
        template(model)


def in_area(height, width, top, left):
    (text, rest) = encoded(PROMPT)[0]
    return [[text, {**rest, "area": (height, width, top, left)}], *encoded("a table")]


def test_a_prompt_for_an_area_moves_only_the_area():
    model, seen = model_of(), []
    layout = draw_template(model, None, "0.5 0 1 1", latent(1, SIDE, SIDE))

    def keep(apply, given):
        if given["input"].shape[-1] == SIDE:
            seen.append(given["input"][-1:].clone())
        return apply(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(keep)
    patched, log = guided(model, palette(model), layout)
    latents = []
    for each in (patched, model):
        sampled(each, positive=in_area(SIDE, SIDE // 2, 0, SIDE // 2), schedule=(3.0, 1.0))
        latents.append(seen[-1])
    guided_latent, plain_latent = latents
    moved = (guided_latent - plain_latent).abs().amax((0, 1, 2))
    assert float(moved[SIDE // 2 :].min()) > 0.01 and float(moved[: SIDE // 2].max()) == 0
    step = (guided_latent - plain_latent).norm() / plain_latent[..., SIDE // 2 :].norm()
    assert abs(float(step) - 0.05) < 1e-4 and len(log.entries) == 1


def test_a_part_of_a_template_is_that_of_the_area():
    maps = torch.arange(64.0).view(1, 8, 8)
    part = Part((0,), (16, 16), (8, 4, 8, 12))
    assert torch.equal(part.crop(maps), maps[:, 4:, 6:])
    assert part.shape == (1, 8, 4) and float(part.cover(torch.zeros(1, 4, 16, 16)).sum()) == 32
    batch = torch.rand(3, 8, 8)
    assert torch.equal(Part((2, 1), (16, 16)).crop(batch), batch[[2, 1]])


def regional(model, texts):
    """Regional prompts as packs add them: queries repeated per region, outputs mixed by masks."""
    model = model.clone()

    def spread(n, context, value, extra_options):
        many = torch.cat([text.expand(len(n), -1, -1) for text in texts])
        return n.repeat(len(texts), 1, 1), many, many

    def mix(out, extra_options):
        parts = out.chunk(len(texts))
        return sum(parts) / len(parts)

    model.set_model_attn2_patch(spread)
    model.set_model_attn2_output_patch(mix)
    return model


def test_the_prompt_is_found_among_regional_prompts():
    model, given = model_of(), palette(model_of())
    text = encoded(PROMPT)[0][0]
    alone, log = guided(regional(model, [text, text]), given, recorded())
    for position in (0, 1):
        texts = [encoded("a table")[0][0]] * 2
        texts[position] = text
        patched, found = guided(regional(model, texts), given, recorded())
        result = sampled(patched, schedule=(3.0, 1.0), cfg=1.0)
        assert torch.isfinite(result).all() and len(found.entries) == 1
        assert float(found.entries[0][1]["layout"]) > 0
    assert not log.entries and alone is not None


def test_regional_prompts_without_the_prompt_are_refused_with_their_cause():
    patched = guided(regional(model_of(), [encoded("a table")[0][0]] * 2), None, recorded())[0]
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected one row of cross-attention.*regional prompts"):
        sampled(patched, cfg=1.0)


SHRINK = pytest.mark.parametrize("end", [0.5, 1.0])


@SHRINK
def test_layers_that_change_size_between_noise_levels(end):
    model = PatchModelAddDownscale.execute(model_of(), 3, 2.0, 0.0, end, True, "bicubic", "bicubic")[0]
    layout = template(model, steps=4)
    sizes = {maps.shape[-1] for levels in layout.maps.values() for maps in levels.values()}
    assert len({tuple(m.shape) for m in next(iter(layout.maps.values())).values()}) == 1 and math.prod(sizes) > 1
    changing = [levels for levels in layout.maps.values() if len({m.shape for m in levels.values()}) > 1]
    assert bool(changing) == (end < 1)
    preview = preview_template(model, layout, {"samples": torch.randn(1, 4, SIDE, SIDE)}, None)
    assert torch.isfinite(preview).all()
    patched, log = guided(model, palette(model, mask=None), layout)
    found = run(patched, steps=4)
    assert torch.isfinite(found).all() and relative(found, run(model, steps=4)) > 0.01
    assert len(log.entries) == 4


@pytest.mark.parametrize("merged", ["HyperTile", "ToMe"])
def test_nodes_that_divide_or_merge_tokens_leave_the_features_alone(merged):
    """Features are read before them."""
    plain = model_of()
    patched = {
        "HyperTile": lambda: HyperTile.execute(plain, 64, 2, 3, True)[0],
        "ToMe": lambda: TomePatchModel.execute(plain, 0.5)[0],
    }[merged]()
    torch.manual_seed(1)
    given = palette(patched, blocks="output3-11")
    model, log = guided(patched, given, recorded())
    found = sampled(model)
    assert torch.isfinite(found).all() and log.entries
    assert relative(found, sampled(patched)) > 0.01
