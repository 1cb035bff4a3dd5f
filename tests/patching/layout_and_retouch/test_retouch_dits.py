"""The retouch on tiny diffusion transformers of nine families: its ends, its modes, and what it leaves alone."""

from dataclasses import replace

import comfy.samplers
import pytest
import torch
from likeness.patching.features import reference_file, room
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.positions import BESIDE, INDEX, SAME
from likeness.patching.features.references import INVERTED, NOISED, References
from likeness.patching.features.room import level_size
from likeness.patching.host.blocks import layers_of
from likeness.patching.host.families import discover
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, QK_BOTH, QKV_BOTH, REPLACE, RetouchSettings
from likeness.tests.patching.dit_runs import Counting
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import (
    NEGATIVE,
    STEPS,
    close,
    far,
    layout,
    masked,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.layout_and_retouch.retouch_runs import counting, mask
from likeness.tests.patching.tiny_dits import DITS, conditioning, latent, tiny_dit

LIGHT = pytest.mark.parametrize("dit", [family for family in DITS if family != "flux2"], indirect=True)
"""All networks; Flux.2 has Flux.1's, and pads its prompts to 512 tokens."""
WITH_HOST_REFERENCES = ("flux", "flux2", "qwen", "krea2")


@pytest.mark.parametrize("attention", [APPEND, REPLACE])
def test_modes_agree(dit, attention):
    """In two rows of an odd size. Prompts of one length let the references join the call, so that it is one call."""
    model, results = tiny_dit(dit), []
    references = [masked(dit, height=7, width=9), reference(dit, 21, weight=0.5, height=7, width=9)]
    for mode in (BATCHED, SEQUENTIAL, BANKED):
        counted, calls = counting(model)
        results.append(run(retouched(counted, references, mode=mode, attention=attention), dit, 2, 7, 9))
        if dit not in ("sd3", "anima"):  # without the wrapper that counts, or with arguments of one row
            assert len(calls) in ((2, 4) if mode == BATCHED else (4, 6, 8, 10, 12))
    close(results[1], results[0])
    close(results[2], results[0])
    assert far(results[0], run(model, dit, 2, 7, 9))
    # The node tells this size before it fills the banks: of both sides of guidance at every level.
    layers = layers_of(discover(model, "Node"))
    told = sum(level_size(model, item, layers, "Node") for item in references)
    assert 2 * STEPS * told == sum(item.bank.size_in_bytes for item in references) > 0


@LIGHT
def test_ends_are_the_plain_model(dit):
    model = tiny_dit(dit)
    plain = run(model, dit)
    for settings in ({"strength": 0.0}, {"blocks": ""}, {"start_percent": 1.0, "end_percent": 0.5}):
        assert torch.equal(run(retouched(model, [reference(dit)], **settings), dit), plain)
    close(run(retouched(model, [reference(dit, weight=1e-30)], attention=APPEND), dit), plain)
    half = run(retouched(model, [reference(dit)], strength=0.5, attention=REPLACE), dit)
    assert far(half, plain)


@LIGHT
def test_grouping_of_rows_does_not_matter(dit):
    model = tiny_dit(dit)
    patched = retouched(model, [masked(dit)], attention=APPEND)
    close(run(patched, dit, apart=True), run(patched, dit))
    two = run(patched, dit, rows=2)
    first = run(patched, dit)
    close(two[:1], first)


@LIGHT
def test_the_order_of_references_does_not_matter(dit):
    model, items = tiny_dit(dit), [reference(dit, 20), masked(dit, seed=21, weight=2.0)]
    first, second = (
        run(retouched(model, given, attention=APPEND, positions=SAME), dit) for given in (items, items[::-1])
    )
    close(second, first)


def test_positions(dit):
    model = tiny_dit(dit)
    same, beside, index = (
        run(retouched(model, [reference(dit)], attention=APPEND, positions=p), dit) for p in (SAME, BESIDE, INDEX)
    )
    if dit == "sd3":
        assert torch.equal(same, beside) and torch.equal(same, index)
    else:
        assert far(beside, same) and far(index, same) and far(index, beside)


@LIGHT
@pytest.mark.parametrize("early", [QKV_BOTH, QK_BOTH])
def test_early_swaps_agree_between_modes(dit, early):
    model = tiny_dit(dit)
    path, picture, other = layout(model, dit), [reference(dit)], conditioning(seed=14)
    first, second = (
        run(
            retouched(model, picture, path, early_swap=early, lambda_2=2, lambda_3=2, mode=m, strength=0.9),
            dit,
            positive=other,
        )
        for m in (BATCHED, SEQUENTIAL)
    )
    close(first, second)
    assert far(first, run(model, dit, positive=other))


@LIGHT
def test_the_layout_is_blended_in_under_the_mask(dit):
    """A mask of 0 gives the layout's attention everywhere, a mask of 1 the target's."""
    model, results = tiny_dit(dit), {}
    path = layout(model, dit, record="all")
    for name, shown in {
        "fixed": mask(),
        "follows": mask(tokens=(1, 3), prompt_length=7, blocks="all"),
        "target": mask(value=1.0),
    }.items():
        results[name] = [
            run(retouched(model, [reference(dit)], path, shown, mode=m, lambda_2=0, lambda_3=0), dit, seed=3)
            for m in ((BATCHED, SEQUENTIAL, BANKED) if name == "follows" else (SEQUENTIAL,))
        ]
    close(results["follows"][1], results["follows"][0])
    close(results["follows"][2], results["follows"][0])
    (fixed,), (target,) = results["fixed"], results["target"]
    assert far(fixed, target) and far(results["follows"][0], target) and far(results["follows"][0], fixed)


@pytest.mark.parametrize("early", [QKV_BOTH, QK_BOTH])
def test_the_vanilla_models_attention_is_lent(early):
    vanilla, model = tiny_dit("lumina2", seed=1), tiny_dit("lumina2")
    path = layout(model, "lumina2", vanilla, switch=1)
    settings = {"early_swap": early, "lambda_2": 1, "lambda_3": 1}
    lent = run(retouched(model, [reference("lumina2")], path, vanilla=vanilla, **settings), "lumina2")
    assert far(lent, run(retouched(model, [reference("lumina2")], path, **settings), "lumina2"))


@pytest.mark.parametrize("dit", WITH_HOST_REFERENCES, indirect=True)
def test_references_of_the_host_stay(dit):
    """The sequence then has their tokens too, on the prompt's side alone."""
    model = tiny_dit(dit)
    text, rest = conditioning(seed=10)[0]
    picture = latent(dit, height=4, width=4, seed=30)["samples"]
    edited = [[text, {**rest, "reference_latents": [picture], "reference_latents_method": "index"}]]
    plain = run(model, dit, positive=edited)
    assert far(plain, run(model, dit))
    close(run(retouched(model, [reference(dit, weight=1e-30)], attention=APPEND), dit, positive=edited), plain)
    assert far(run(retouched(model, [reference(dit)], attention=REPLACE), dit, positive=edited), plain)


def test_another_override_sees_the_borrowed_keys(dit):
    model, other = tiny_dit(dit), Counting(1.01)
    run(retouched(other.on(model), [reference(dit)], attention=APPEND), dit, steps=1)
    plain = Counting(1.01)
    run(plain.on(model), dit, steps=1)
    # The reference has a call of its own, and text and picture are asked apart.
    assert sum(other.calls.values()) >= 2 * sum(plain.calls.values())


@LIGHT
def test_nothing_is_left_on_the_model(dit):
    model = tiny_dit(dit)
    before, options = run(model, dit), dict(model.model_options["transformer_options"])
    run(retouched(model, [reference(dit)], mode=BANKED), dit)
    assert model.model_options["transformer_options"] == options and torch.equal(run(model, dit), before)


def test_blocks_of_a_u_net_are_refused_with_the_models_own():
    with pytest.raises(ValueError, match=r"expected blocks among double0, double1, single0, .* late, .*got 'output6'"):
        retouched(tiny_dit("flux"), [reference("flux")], blocks="output6")
    with pytest.raises(ValueError, match=r"got 'decoder'; change blocks"):
        retouched(tiny_dit("zimage"), [reference("zimage")], blocks="decoder")


def test_two_retouches_of_one_block_are_refused_before_sampling():
    first = retouched(tiny_dit("flux"), [reference("flux")], blocks="double0-1")
    with pytest.raises(ValueError, match=r"^Reference Retouch: expected one .* of a transformer, got two for double1;"):
        retouched(first, [reference("flux", 21)], blocks="double1 single0")
    apart = retouched(first, [reference("flux", 21)], blocks="single0")
    assert far(run(apart, "flux"), run(first, "flux"))
    retouched(first, [reference("flux", 21)], blocks="all", start_percent=1.0)
    early = retouched(tiny_dit("flux"), [reference("flux")], end_percent=0.5)
    retouched(early, [reference("flux", 21)], start_percent=0.5)


def test_the_node_says_where_two_swaps_are_one():
    told = Notices("Node")
    given = layout(tiny_dit("flux"), "flux"), None, RetouchSettings(early_swap=QK_BOTH, blocks="all")
    retouch(tiny_dit("flux"), References((reference("flux"),)), *given, notices=told)
    assert "Early_swap qk_both is qk_self on a transformer, whose prompt keeps its own attention." in told.sentences


@pytest.mark.parametrize(
    ("mode", "threshold", "tells"), [(BANKED, 0, True), (BANKED, None, False), (SEQUENTIAL, 0, False)]
)
def test_the_node_names_the_mode_that_saves_ram(mode, threshold, tells, monkeypatch):
    """With the size, from a quarter of a GiB on."""
    if threshold is not None:
        monkeypatch.setattr(room, "_WORTH_TELLING", threshold)
    told, item = Notices("Node"), reference("zimage")
    chosen = RetouchSettings(early_swap=NONE, lambda_2=0, mode=mode, blocks="all")
    run(retouch(tiny_dit("zimage"), References((item,)), None, None, chosen, notices=told), "zimage")
    size = item.bank.size_in_bytes
    expected = (
        f"The features of 1 reference picture at {STEPS} noise levels take {size / room.GIB:.2f} GiB of RAM after "
        "this run; set mode to sequential on Reference Retouch to save it."
    )
    assert bool(size) == (mode == BANKED) and (expected in told.sentences) == tells
    assert tells or "GiB" not in " ".join(told.sentences)


@pytest.mark.parametrize(("source", "calls"), [(NOISED, 0), (INVERTED, 50)])
def test_an_inversion_costs_calls_of_its_own_whatever_the_steps(source, calls):
    counted, seen = counting(tiny_dit("lumina2"))
    item = replace(reference("lumina2"), kind=source)
    for steps, expected in ((4, calls), (2, 0)):
        seen.clear()
        run(retouched(counted, [item], mode=SEQUENTIAL), "lumina2", steps=steps, cfg=1.0)
        assert len(seen) == 2 * steps + expected  # one call for the picture and one for the reference


def test_a_saved_reference_gives_the_same_picture_without_calls():
    model, settings = tiny_dit("lumina2"), {"mode": BANKED, "attention": APPEND}
    given = References((masked("lumina2"),))
    expected = run(retouched(model, given.items, **settings), "lumina2")
    sigmas = comfy.samplers.KSampler(model, STEPS, "cpu", "euler", "simple").sigmas
    negative = conditioning(seed=NEGATIVE)
    tensors, facts = reference_file.parts_of(reference_file.fill(given, model, sigmas, "all", negative))
    saved = reference_file.references_of(tensors, facts)
    counted, calls = counting(model)
    close(run(retouched(counted, saved.items, **settings), "lumina2"), expected)
    run(counted, "lumina2")
    assert calls[: len(calls) // 2] == calls[len(calls) // 2 :]
