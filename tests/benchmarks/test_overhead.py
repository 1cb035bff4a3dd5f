"""Neutral variants compute what KSampler computes, and the timing finds a known ratio."""

import itertools
import linecache
import logging
import sys
import traceback

import comfy.utils
import pytest
import torch
from likeness.benchmarks import networks, overhead, timing
from likeness.patching.host.families import discover
from likeness.patching.layout_and_retouch import step_blended


@pytest.fixture(scope="module")
def network(random_weights):
    with torch.inference_mode():
        return networks.tiny_network(random_weights, 2)


def samples(result):
    """Latent of a variant's result, in any of its forms."""
    while not isinstance(result, torch.Tensor):
        result = getattr(result, "args", result)
        result = result["samples"] if isinstance(result, dict) else result[0]
    return result


def test_neutral_variants_are_ksampler_and_the_others_work(network):
    variants = overhead.variants(network)
    acting = {"step_blended_ratio", "retouch_step_banked_ratio", "guided_step_ratio"}
    assert {v.figure for v in variants} == {
        "strength_zero_ratio",
        "attention_tap_ratio",
        "attention_maps_ratio",
        *acting,
    }
    assert len({v.name for v in variants}) == len(variants)
    for variant in variants:
        with torch.inference_mode(), timing.silence():
            result = variant.sample()
            if variant.figure == "attention_maps_ratio":
                assert result.heatmaps.shape == (1, 128, 128) and result.heatmaps.max() == 1
                continue
            same = torch.equal(samples(result), samples(variant.reference()))
        assert same == (variant.figure not in acting), variant.name


def calls_of(run) -> int:
    """Number of functions that a run calls, in Python and in C."""
    counted = itertools.count()

    def note(frame, event, _argument):
        # Without a GPU, torch keeps the call stack of each seeding; its depth is no work of a node.
        if event in ("call", "c_call") and frame.f_code.co_filename not in (traceback.__file__, linecache.__file__):
            next(counted)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return next(counted)


def test_what_idles_does_as_little_in_any_network(network, monkeypatch):
    """Extra calls over the plain run must not grow with the layers, so that a small network can stand for a large
    one.

    Before a run, a LoRA's layers are compared with the checkpoint's once.
    """
    monkeypatch.setattr(step_blended, "tell_misfits", lambda *_: None)
    with torch.inference_mode(), timing.silence():
        small = networks.small_network(network.steps)
        layers = [len(discover(n.model, "bench")) for n in (small, network)]
        assert layers[0] < layers[1]
        for pair in zip(*(overhead.idle_variants(n) for n in (small, network)), strict=True):
            extra = []
            for variant in pair:
                for run in (variant.sample, variant.reference):
                    timing.timed(variant.first, run)
                extra.append(calls_of(variant.sample) - calls_of(variant.reference))
            assert abs(extra[0] - extra[1]) <= 40 and extra[0] < 125 * (network.steps + 2), (pair[0].name, extra)


def test_silence_ends():
    with pytest.raises(KeyError), timing.silence():
        assert not comfy.utils.PROGRESS_BAR_ENABLED and not logging.getLogger().isEnabledFor(logging.WARNING)
        raise KeyError
    assert comfy.utils.PROGRESS_BAR_ENABLED and logging.getLogger().isEnabledFor(logging.WARNING)


def test_a_known_ratio_is_found_whichever_run_is_first(network, monkeypatch):
    clock = [0.0]

    def lasting(seconds):
        clock[0] += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(timing.comfy.model_management, "load_models_gpu", lambda _models: lasting(7.0))
    variants = [
        timing.Variant(f"v{k}", "x", network.model, lambda k=k: lasting(2.0 * k), lambda: lasting(2.0)) for k in (1, 3)
    ]
    one, three = timing.compare(variants, 0.0, fewest_rounds=4)
    assert (
        one.ratio == pytest.approx([1.0] * 3)
        and three.ratio == pytest.approx([3.0] * 3)
        and three.seconds == pytest.approx([6.0] * 3)
    )
    assert three.row(network) == {"name": "Tinyland: v3", "ratio": three.ratio, "seconds": three.seconds}


def test_rounds_end_with_the_seconds(network, monkeypatch):
    calls = itertools.count()
    monkeypatch.setattr(timing, "timed_pair", lambda *_, **__: (next(calls), 1.0))
    timing.compare([timing.Variant("v", "x", network.model, lambda: None, lambda: None)], 0.0)
    assert next(calls) == 2


def test_the_random_lora_reaches_every_attention_projection(network):
    unet = network.model.model.diffusion_model
    lora = networks.random_lora(unet)
    expected = [path for path, weight in unet.named_parameters() if ".attn" in path and weight.ndim == 2]
    assert len(lora) == 2 * len(expected) > 0
    patched, _ = networks.comfy.sd.load_lora_for_models(network.model, None, lora, 1.0, 0.0)
    assert {key.removeprefix("diffusion_model.") for key in patched.patches} == set(expected)


def test_report(random_weights, monkeypatch):
    tiny, all_of_them = networks.tiny_network, overhead.variants
    monkeypatch.setattr(overhead, "variants", lambda network: all_of_them(network)[-4:])
    monkeypatch.setattr(overhead, "networks", lambda _quick, weights: [(tiny(weights, 2), 0.0, 0.0)])
    monkeypatch.setattr(overhead, "compare", lambda variants, _seconds: timing.compare(variants, 0.0, fewest_rounds=1))
    with torch.inference_mode():
        result = overhead.run(quick=True, weights=random_weights)
    assert comfy.utils.PROGRESS_BAR_ENABLED
    ratios = {row["name"]: row["ratio"][0] for row in result.rows}
    assert len(ratios) == 4
    assert result.figures["tinyland_guided_step_ratio"] == ratios["Tinyland: both losses, every step"]
    assert {
        "tinyland_strength_zero_ratio",
        "tinyland_retouch_step_banked_ratio",
        "tinyland_strength_zero_added_ms",
    } <= set(result.figures)


def test_what_changes_nothing_is_measured_by_what_it_adds(random_weights, monkeypatch):
    """Two milliseconds more on the small network are 0.4 % of a plain run of half a second, despite noisy ratios."""

    def compared(variants, _seconds):
        small = [v for v in variants if v.figure == overhead.NEUTRAL] == list(variants)
        added = [0.001 * (1 + i % 2) if small else 9.0 for i in range(len(variants))]
        return [timing.Timing(v, [1.3] * 3, [a] * 3, [0.7] * 3, 0.5) for v, a in zip(variants, added, strict=True)]

    tiny = networks.tiny_network
    monkeypatch.setattr(overhead, "compare", compared)
    monkeypatch.setattr(overhead, "networks", lambda _quick, weights: [(tiny(weights, 2), 0.0, 0.0)])
    with torch.inference_mode():
        figures = overhead.run(quick=True, weights=random_weights).figures
    assert figures["tinyland_strength_zero_ratio"] == pytest.approx(1.004)
    assert figures["tinyland_strength_zero_added_ms"] == pytest.approx(2.0)
    assert figures["tinyland_step_blended_ratio"] == 1.3
