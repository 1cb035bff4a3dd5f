"""Taps on tiny real U-Nets: they read what the network computed and change nothing."""

import pytest
import torch
from likeness.kernels.attention import attention_probabilities
from likeness.patching.features.taps import CrossAttentionTap, LentTap
from likeness.patching.host.attach import attach
from likeness.patching.host.families import discover, family_of
from likeness.patching.host.window import Window
from likeness.tests.patching.tiny_models import FAMILIES, ONE_LEVEL, conditioning, latent, run_ksampler, tiny_model

TOKENS = 7


class Notes:
    """A sink that keeps everything it is shown: {(number of the call, layer): values}."""

    def __init__(self):
        self.calls, self.values, self.sizes = [], {}, {}

    def record(self, call, layer, values, size):
        if not self.calls or self.calls[-1] is not call:
            self.calls.append(call)
        self.values[len(self.calls) - 1, tuple(layer)] = values.clone()
        self.sizes[tuple(layer)] = size


def tapped(model, kind, sink, wanted="all", **options):
    blocks = [b for b in discover(model, "Tap") if wanted in ("all", b.name)]
    if kind is CrossAttentionTap:
        options = {"tokens": (1, 4), "prompt_length": TOKENS, **options}
    return attach(model, kind("Tap", family_of(model, "Tap"), tuple(blocks), sink, **options))


KINDS = pytest.mark.parametrize("kind", [LentTap, CrossAttentionTap])


DTYPES = (torch.float32, torch.float16, torch.bfloat16)


# Each pair of family and dtype, and each of kind and family or dtype.
@pytest.mark.parametrize(
    ("family", "dtype", "kind"),
    [
        pytest.param(family, dtype, (LentTap, CrossAttentionTap)[(i + j) % 2], id=f"{family}-{dtype}")
        for i, family in enumerate(FAMILIES)
        for j, dtype in enumerate(DTYPES)
    ],
)
def test_reading_changes_no_bit(family, dtype, kind):
    model, notes = tiny_model(family, dtype), Notes()
    assert torch.equal(run_ksampler(tapped(model, kind, notes), steps=2), run_ksampler(model, steps=2))
    layers = sum(b.depth for b in discover(model, "Tap"))
    assert len(notes.values) == 2 * layers
    assert {v.dtype for v in notes.values.values()} == {torch.float32 if kind is CrossAttentionTap else dtype}


@KINDS
@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "dpmpp_sde", "uni_pc", "lcm"])
def test_every_sampler(kind, sampler):
    model = tiny_model(ONE_LEVEL)
    assert torch.equal(
        run_ksampler(tapped(model, kind, Notes()), sampler=sampler), run_ksampler(model, sampler=sampler)
    )


# Each pair of family and size, and each of kind and family or size.
@pytest.mark.parametrize(
    ("family", "kind", "batch", "height", "width"),
    [
        (family, (LentTap, CrossAttentionTap)[(i + j) % 2], *size)
        for i, family in enumerate(FAMILIES)
        for j, size in enumerate([(1, 8, 12), (2, 9, 7), (3, 11, 8), (5, 5, 5)])
    ],
)
def test_batches_and_odd_sizes(family, kind, batch, height, width):
    model, notes, image = tiny_model(family), Notes(), latent(batch, height, width)
    result = run_ksampler(tapped(model, kind, notes, conditional=True), latent_image=image, steps=1)
    assert torch.equal(result, run_ksampler(model, latent_image=image, steps=1))
    for (_, layer), values in notes.values.items():
        h, w = notes.sizes[layer]
        assert values.shape[:2] == (batch, h * w)
        assert h in {-(-height // 2**i) for i in range(4)} and w in {-(-width // 2**i) for i in range(4)}


@KINDS
def test_rows_do_not_depend_on_how_the_host_calls(family, kind):
    """cond and uncond in one call, in two calls, or CFG 1: the prompt's rows are the same."""
    model, results = tiny_model(family), []
    for settings in ({}, {"apart": True}, {"cfg": 1.0}):
        notes = Notes()
        # CFG 1 samples otherwise from the second step on, so one step is compared.
        run_ksampler(tapped(model, kind, notes, conditional=True), latent_image=latent(2), steps=1, **settings)
        results.append(notes.values)
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for key, values in other.items():
            torch.testing.assert_close(values, results[0][key], rtol=2e-4, atol=2e-5)


@KINDS
def test_unconditional_rows_are_those_of_the_negative_prompt(kind):
    model = tiny_model("sd1")
    read = {}
    for flag, positive, negative in ((False, 10, 11), (True, 11, 10)):
        notes = Notes()
        run_ksampler(
            tapped(model, kind, notes, conditional=flag),
            conditioning(model, seed=positive),
            conditioning(model, seed=negative),
            steps=1,
        )
        read[flag] = notes.values
    for key, values in read[False].items():
        torch.testing.assert_close(values, read[True][key], rtol=2e-4, atol=2e-5)


def brute_force(records, block):
    q, k, heads = records[block]
    return attention_probabilities(q, k, heads).mean(1)


class Override:
    """An optimized_attention_override that keeps q and k of cross-attention, and changes what attention gives."""

    def __init__(self, gain=1.0):
        self.seen, self.gain = {}, gain

    def __call__(self, function, q, k, v, heads, *args, **kwargs):
        options = kwargs.get("transformer_options") or {}
        if "block" in options and q.shape[1] != k.shape[1]:
            self.seen[(*options["block"], options["block_index"])] = (q, k, heads)
        return self.gain * function(q, k, v, heads, *args, **kwargs)


def test_maps_are_the_probabilities_that_the_layer_used(family):
    model, notes, override = tiny_model(family), Notes(), Override()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    run_ksampler(tapped(model, CrossAttentionTap, notes), latent_image=latent(2, 9, 8), steps=1)
    assert override.seen.keys() == notes.sizes.keys()
    for layer in notes.sizes:
        torch.testing.assert_close(
            notes.values[0, layer], brute_force(override.seen, layer)[..., [1, 4]], rtol=1e-4, atol=1e-6
        )


@KINDS
def test_attention_override_is_honored(family, kind):
    plain = tiny_model(family)
    overridden, seen = plain.clone(), Override(gain=0.5)
    overridden.model_options["transformer_options"]["optimized_attention_override"] = seen
    expected = run_ksampler(overridden, steps=2)
    count = len(seen.seen)
    seen.seen.clear()
    assert torch.equal(run_ksampler(tapped(overridden, kind, Notes()), steps=2), expected)
    assert len(seen.seen) == count > 0
    assert not torch.equal(expected, run_ksampler(plain, steps=2))


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("late", [False, True])
def test_what_sits_in_a_slot_is_called(index, late):
    """A patch of the block's or of the layer's slot, set before the tap or after it."""
    model, notes = tiny_model("sdxl"), Notes()

    def halved(q, k, v, options):
        shape = (*q.shape[:2], options["n_heads"], -1)
        q, k, v = (x.view(x.shape[0], x.shape[1], *shape[2:]).transpose(1, 2) for x in (q, k, v))
        return 0.5 * torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    patched = model.clone()
    patched.set_model_attn2_replace(halved, "output", 1, index)
    both = tapped(model if late else patched, CrossAttentionTap, notes, "output1")
    if late:
        both.set_model_attn2_replace(halved, "output", 1, index)
    expected = run_ksampler(patched, steps=1)
    assert torch.equal(run_ksampler(both, steps=1), expected)
    assert not torch.equal(expected, run_ksampler(model, steps=1))
    assert {layer for _, layer in notes.values} == {("output", 1, 0), ("output", 1, 1)}


@pytest.mark.parametrize("late", [False, True])
def test_hidden_states_are_read_after_the_patches_that_change_them(late):
    model, notes, plain = tiny_model("sd1"), Notes(), Notes()

    def doubled(n, context, value, options):
        return (2 * n, 2 * context, 2 * value) if options["block"] == ("input", 1) else (n, context, value)

    patched = model.clone()
    patched.set_model_attn1_patch(doubled)
    both = tapped(model if late else patched, LentTap, notes, "input1")
    if late:
        both.set_model_attn1_patch(doubled)
    assert torch.equal(run_ksampler(both, steps=1), run_ksampler(patched, steps=1))
    run_ksampler(tapped(model, LentTap, plain, "input1"), steps=1)
    torch.testing.assert_close(notes.values[0, ("input", 1, 0)], 2 * plain.values[0, ("input", 1, 0)])


def test_two_taps_read_together():
    model, first, second = tiny_model("sd1"), Notes(), Notes()
    both = tapped(
        tapped(model, CrossAttentionTap, first, "output5"), CrossAttentionTap, second, "output5", tokens=(4, 1)
    )
    assert torch.equal(run_ksampler(both, steps=1), run_ksampler(model, steps=1))
    key = (0, ("output", 5, 0))
    assert torch.equal(first.values[key], second.values[key].flip(-1))


@pytest.mark.parametrize("negative_tokens", [7, 14, 28, 21, 35])
def test_repeated_tokens_are_folded(negative_tokens):
    """The host repeats the shorter text until both are as long: the map must not notice. 35 tokens are too many, it
    makes two calls."""
    model, expected, notes = tiny_model("sd1"), Notes(), Notes()
    options = {"conditional": True}
    positive = conditioning(model, tokens=TOKENS, seed=10)
    run_ksampler(tapped(model, CrossAttentionTap, expected, **options), positive, positive, steps=1, cfg=1.0)
    negative = conditioning(model, tokens=negative_tokens, seed=11)
    run_ksampler(tapped(model, CrossAttentionTap, notes, **options), positive, negative, steps=1)
    assert notes.values.keys() == expected.values.keys()
    for key, values in notes.values.items():
        torch.testing.assert_close(values, expected.values[key], rtol=1e-4, atol=1e-6)


def test_outside_its_window_a_tap_reads_nothing():
    model, notes = tiny_model("sd1"), Notes()
    half = Window(0.5, 1.0)
    assert torch.equal(
        run_ksampler(tapped(model, LentTap, notes, "middle0", window=half), steps=6),
        run_ksampler(model, steps=6),
    )
    limit = float(model.get_model_object("model_sampling").percent_to_sigma(0.5))
    sigmas = [call.sigma for call in notes.calls]
    assert 0 < len(sigmas) < 6 and all(sigma <= limit for sigma in sigmas)


def test_area_conditioning_is_read_in_its_own_size():
    model, notes = tiny_model("sd1"), Notes()
    positive = [[c[0], {**c[1], "area": (8, 4, 0, 0)}] for c in conditioning(model, seed=10)] + conditioning(
        model, seed=12
    )
    run_ksampler(tapped(model, LentTap, notes, "input1"), positive, steps=1)
    assert {call.x.shape[-1] for call in notes.calls} == {4, 8}
    assert all(
        any(row.conditional for row in call.rows) and any(not row.conditional for row in call.rows)
        for call in notes.calls
    )


def test_a_block_that_is_never_reached_raises():
    model = tiny_model("sd1")

    def apply(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        return torch.zeros_like(x)  # a cache that answers for the model

    both = tapped(model, LentTap, Notes(), "output4")
    both.add_wrapper_with_key("apply_model", "cache", apply)
    with pytest.raises(
        ValueError, match=r"^Tap: expected the model to reach output4, got a model call without them; remove"
    ):
        run_ksampler(both, steps=1)


def test_divided_attention_is_refused():
    model = tiny_model("sd1")
    divided = model.clone()
    divided.set_model_attn1_patch(lambda n, context, value, options: (n.unflatten(1, (2, -1)).flatten(0, 1),) * 3)
    with pytest.raises(ValueError, match="Tap: expected 2 rows of 64 positions in attention, got 4 of 32; remove"):
        run_ksampler(tapped(divided, LentTap, Notes(), "input1"), steps=1)


def test_text_of_another_length_is_refused():
    model = tiny_model("sd1")
    with pytest.raises(
        ValueError, match="Tap: expected text of 5 tokens, or repeats of it, in the model, got 7 tokens; write"
    ):
        run_ksampler(tapped(model, CrossAttentionTap, Notes(), prompt_length=5), steps=1)


def test_taps_without_blocks_or_tokens_are_refused():
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match="Tap: expected at least one block to read, got none"):
        tapped(model, LentTap, Notes(), "nothing")
    with pytest.raises(ValueError, match="Tap: expected tokens between 0 and 6, got \\(7,\\)"):
        tapped(model, CrossAttentionTap, Notes(), tokens=(7,))
