"""The added method on tiny real U-Nets: its neutral settings, its modes, its reference."""

from dataclasses import asdict

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from likeness.nodes.style_aligned import StyleAligned
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import INVERTED, NOISED, Reference, References
from likeness.patching.style_aligned.patch import StyleAlignedSettings, style_aligned
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler, tiny_model

MODES = (BATCHED, SEQUENTIAL, BANKED)
STEPS = 2


@pytest.fixture
def model(request):
    return tiny_model(getattr(request, "param", "sd1"))


both_families = pytest.mark.parametrize("model", ["sd1", "sdxl"], indirect=True)


def reference(model, seed=20, kind=INVERTED, size=(8, 8), mask=None, weight=1.0) -> Reference:
    prompt = conditioning(model, seed=12)
    return Reference(latent(1, *size, seed), prompt, kind, seed, mask, weight, inversion_steps=1)  # as many as the run


def aligned(model, *items, mode=SEQUENTIAL, **settings):
    return style_aligned(model, References(items), StyleAlignedSettings(mode=mode, **settings))


def run(model, batch=1, **settings):
    return run_ksampler(model, latent_image={"samples": torch.zeros(batch, 4, 8, 8)}, steps=STEPS, **settings)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4 * float(b.abs().max()))


def far(a, b):
    return float((a - b).abs().mean() / b.abs().mean()) > 1e-3


NEUTRAL = {
    "strength": {"strength": 0.0},
    "blocks": {"blocks": ""},
    "window": {"start_percent": 0.5, "end_percent": 0.5},
}


@both_families
@pytest.mark.parametrize("neutral", NEUTRAL)
def test_neutral_settings_change_no_bit(model, neutral):
    assert torch.equal(run(aligned(model, reference(model), **NEUTRAL[neutral])), run(model))


@both_families
@pytest.mark.parametrize(("kind", "batch"), [(INVERTED, 2), (NOISED, 1)])
def test_modes_agree(model, kind, batch):
    mask = torch.zeros(64, 64)
    mask[8:56, 16:48] = 1
    results = []
    for mode in MODES:  # with new references each, whose banks are empty
        items = reference(model, kind=kind, mask=mask), reference(model, 21, kind=kind, weight=2.0)
        results.append(run(aligned(model, *items, mode=mode), batch))
    close(results[1], results[0])
    close(results[2], results[0])
    assert far(results[0], run(model, batch))
    assert batch == 1 or far(results[0][:1], results[0][1:])


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_a_batch_is_drawn_as_alone(model, mode):
    def given(batch, **settings):
        return run(aligned(model, reference(model), mode=mode), batch, **settings)

    close(given(2)[:1], given(1))
    close(given(1, apart=True), given(1))  # with prompt and without in two calls


def test_a_filled_bank_gives_the_same_picture(model):
    item = reference(model)
    first = run(aligned(model, item, mode=BANKED))
    close(run(aligned(model, item, mode=BANKED)), first)
    assert item.bank.size_in_bytes > 0


@pytest.mark.parametrize("mode", MODES)
def test_another_reference_gives_another_picture(model, mode):
    results = [run(aligned(model, reference(model, seed), mode=mode)) for seed in (20, 21)]
    assert far(*results)


@pytest.mark.parametrize("mode", MODES)
def test_a_reference_of_another_size(model, mode):
    close(
        run(aligned(model, reference(model, size=(12, 10)), mode=mode)),
        run(aligned(model, reference(model, size=(12, 10)))),
    )


@both_families
@pytest.mark.parametrize("mode", MODES)
def test_the_target_as_its_own_reference_changes_nothing(model, mode):
    """Then AdaIN is the identity, and every key stands twice. Latents and prompts of both are the same."""
    given, prompt = latent(1, 8, 8, 20), conditioning(model, seed=10)
    item = Reference(given, prompt, NOISED, 3)
    settings = {"positive": prompt, "latent_image": given, "steps": 1, "denoise": 0.5}
    plain = run_ksampler(model, **settings)
    close(run_ksampler(aligned(model, item, mode=mode), **settings), plain)
    assert far(run_ksampler(aligned(model, reference(model), mode=mode), **settings), plain)


def test_strength_grows_from_nothing(model):
    plain = run(model)
    results = [run(aligned(model, reference(model), strength=s)) for s in (1e-6, 0.5, 1.0)]
    distances = [float((r - plain).square().mean()) for r in results]
    assert distances[0] < 1e-6 < distances[1] < distances[2]


def test_a_weight_changes_the_picture(model):
    assert far(run(aligned(model, reference(model, weight=4.0))), run(aligned(model, reference(model))))


@pytest.mark.parametrize("mode", MODES)
def test_a_weight_is_refused_where_another_node_replaces_attention(mode):
    model = tiny_model("sd1")

    def attend(q, k, v, extra_options):
        return optimized_attention(q, k, v, extra_options["n_heads"]) * 0.5

    model.set_model_attn1_replace(attend, "output", 6)
    assert torch.isfinite(run(aligned(model, reference(model), mode=mode))).all()
    with pytest.raises(ValueError, match=r"StyleAligned: expected references of weight 1 .* got 3;"):
        run(aligned(model, reference(model, weight=3.0), mode=mode))


def test_a_reference_of_another_family_is_refused():
    wide = Reference(latent(), [[torch.zeros(1, 7, 48), {}]], NOISED, 0)
    with pytest.raises(ValueError, match="24 wide, got 48"):
        aligned(tiny_model("sd1"), wide)


def test_unknown_blocks_are_refused():
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match=r"StyleAligned: expected blocks among .* got 'output99'"):
        aligned(model, reference(model), blocks="output99")


def test_the_input_model_stays_as_it_was(model):
    options, before = repr(model.model_options), run(model)
    run(aligned(model, reference(model)))
    assert repr(model.model_options) == options and torch.equal(run(model), before)


def test_the_widgets_are_the_settings():
    inputs = {given.id: given for given in StyleAligned.define_schema().inputs}
    widgets = {name: given.default for name, given in inputs.items() if name not in ("model", "reference")}
    assert widgets == asdict(StyleAlignedSettings())
