"""The hook in the attention of tiny diffusion transformers of nine families."""

import importlib
import math

import comfy.model_base
import pytest
import torch
from likeness.benchmarks.fuzz.host_nodes.transformers import KINDS, sizes_of
from likeness.kernels.attention import rotated
from likeness.patching.host.attach import attach
from likeness.patching.host.dit_table import row_of
from likeness.patching.host.families import family_of
from likeness.patching.host.family import COARSE, LATE, SelfAttentionChange, Shift
from likeness.patching.host.tokens import Tokens
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.dit_runs import Counting, WithOptions, changed, layers, run, tapped
from likeness.tests.patching.tiny_dits import tiny_dit
from likeness.tests.patching.tiny_models import tiny_model

WITH_REFINERS = ("zimage", "lumina2", "krea2")


class Notes:
    """A reader that keeps layers and tokens."""

    def __init__(self):
        self.layers, self.tokens = [], []

    def __call__(self, layer, attended, tokens):
        assert attended.q.shape == attended.output.shape and attended.q.shape[1] == tokens.total
        self.layers.append(layer)
        self.tokens.append(tokens)


class Turned(SelfAttentionChange):
    """Turns the outputs of the picture's tokens around; some networks normalize them, so size would not show."""

    def output(self, layer, output, tokens):
        assert output.shape[1] == tokens.total == tokens.picture
        return output.flip(1)


def test_reading_changes_no_bit(dit):
    model, notes = tiny_dit(dit), Notes()
    assert torch.equal(run(tapped(model, notes, True), dit), run(model, dit))
    calls = len(notes.layers) // len(layers(model))
    assert notes.layers == list(layers(model)) * calls and calls in (2, 4)


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_recomputed_attention_is_the_same(dit, size):
    model = tiny_dit(dit)
    plain = run(model, dit, *size, rows=2)
    torch.testing.assert_close(run(changed(model, SelfAttentionChange()), dit, *size, rows=2), plain, rtol=0, atol=1e-3)
    assert not torch.allclose(run(changed(model, Turned()), dit, *size, rows=2), plain, rtol=0, atol=1e-3)


def test_a_longer_text_does_not_move_the_picture(dit):
    model, found = tiny_dit(dit), []
    for length in (3, 40):
        notes = Notes()
        run(tapped(model, notes, True), dit, 6, 10, tokens=length, steps=1, cfg=1.0)
        (tokens,) = set(notes.tokens)
        found.append(tokens)
    short, long = found
    assert short.size == long.size == ((6, 10) if dit == "flux2" else (3, 5))
    added = {"anima": 0, "flux2": 0, "zimage": 32}.get(dit, 37)  # one pads to 512 tokens, one to multiples of 32
    assert (long.first - short.first, long.after - short.after) == (added, 0)
    assert long.text == (0, long.first)


def test_the_picture_is_what_changes_with_the_latent(dit):
    """The values of the first layer differ from picture to picture at the picture's tokens, and after them at most."""
    model, kept = tiny_dit(dit), []

    def read(layer, attended, tokens):
        if layer == layers(model)[0]:
            kept.append((attended.v, tokens))

    for seed in (3, 4):
        run(tapped(model, read), dit, 7, 9, seed=seed, steps=1, cfg=1.0)
    (first, tokens), (second, _) = kept
    differs = (first != second).any(2).any(0)
    assert not differs[: tokens.first].any() and differs[tokens.first : tokens.first + tokens.picture].all()
    assert not differs[tokens.first + tokens.picture :].any() or dit == "zimage"  # whose refiners see the padding


@pytest.mark.parametrize("dit", [d for d in tiny_dits.DITS if d != "sd3"], indirect=True)
def test_moves_add_up(dit):
    """The place of a moved key among the network's own is in test_places.py."""
    family = family_of(tiny_dit(dit), "Test")
    assert family.rotation(Shift(), torch.device("cpu")) is None
    at = [family.rotation(Shift(*place), torch.device("cpu")) for place in ((1, 2, 3), (0, 0, 4), (1, 2, 7))]
    x = torch.randn(2, 3, 4 * 2 * len(at[0]), generator=torch.Generator().manual_seed(1))
    there = rotated(rotated(x, at[0], family.halves), at[1], family.halves)
    torch.testing.assert_close(there, rotated(x, at[2], family.halves), rtol=0, atol=5e-6)
    assert not torch.allclose(there, rotated(x, at[0], family.halves), atol=0.1)


def test_lent_keys_do_not_depend_on_the_length_of_the_prompt():
    """Lumina counts its picture's index from the prompt's end. Without padding its first layer sees no more of it."""
    model = tiny_dit("lumina2")
    family, first, lent, raw = family_of(model, "Test"), layers(model)[:1], [], []

    def read(layer, attended, tokens):
        if layer in first:
            raw.append(tokens.of_picture(attended.k))

    def reading(options):
        return family.tap_lent(options, first, lambda layer, joined, tokens: lent.append(joined))

    for length in (3, 40):
        both = tapped(attach(model, WithOptions(reading)), read)
        run(both, "lumina2", tokens=length, steps=1, cfg=1.0)
    torch.testing.assert_close(lent[1], lent[0], rtol=0, atol=1e-4)
    assert not torch.allclose(raw[1], raw[0], atol=0.1)


def test_another_override_is_kept(dit):
    model = tiny_dit(dit)
    plain, beside, louder = Counting(), Counting(), Counting(1.5)
    expected = run(plain.on(model), dit)
    torch.testing.assert_close(run(changed(beside.on(model), SelfAttentionChange()), dit), expected, rtol=0, atol=1e-3)
    assert sum(beside.calls.values()) == sum(plain.calls.values())
    torch.testing.assert_close(
        run(changed(louder.on(model), SelfAttentionChange()), dit),
        run(Counting(1.5).on(model), dit),
        rtol=0,
        atol=1e-3,
    )
    refiners = sum(count for (_, index), count in beside.calls.items() if index is None)
    assert bool(refiners) == (dit in WITH_REFINERS)


class Refined:
    """Another override, which keeps the outputs of attention outside of the blocks."""

    def __init__(self):
        self.outputs = []

    def __call__(self, func, *args, **kwargs):
        output = func(*args, **kwargs)
        if kwargs["transformer_options"].get("block_index") is None:
            self.outputs.append(output)
        return output


@pytest.mark.parametrize("dit", WITH_REFINERS, indirect=True)
def test_refiners_and_fusions_are_untouched(dit):
    model, found = tiny_dit(dit), []
    for change in (False, True):
        seen, given = Refined(), model.clone()
        given.model_options["transformer_options"]["optimized_attention_override"] = seen
        run(changed(given, Turned()) if change else given, dit, steps=1, cfg=1.0)
        found.append(seen.outputs)
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_two_changes_of_a_layer_are_refused():
    model = tiny_dit("flux")
    with pytest.raises(ValueError, match=r"expected one node that changes the attention of double0, got 2; change"):
        run(changed(model, Turned(), Turned()), "flux")


def test_a_mask_of_the_host_follows_the_tokens():
    """Masked text keys stay masked where the picture comes first, and for its queries alone."""

    class Split(SelfAttentionChange):
        def attend(self, layer, q, k, v, attention, tokens):
            assert attention.mask is not None and attention.mask.shape[-1] == tokens.total
            return attention.completed(attention.of_picture(q[:, : tokens.picture], k, v), q, k, v)

    model = tiny_dit("qwen")

    text, rest = tiny_dits.conditioning(seed=10)[0]
    prompt = [[text, {**rest, "attention_mask": torch.tensor([[1, 1, 1, 0, 0, 1, 1]])}]]
    settings = {"positive": prompt, "negative": prompt, "steps": 1}
    plain = tiny_dits.run_ksampler(model, "qwen", **settings)
    torch.testing.assert_close(
        tiny_dits.run_ksampler(changed(model, Split()), "qwen", **settings), plain, rtol=0, atol=1e-4
    )
    unmasked = {**settings, "positive": [[text, rest]]}
    assert not torch.allclose(tiny_dits.run_ksampler(model, "qwen", **unmasked), plain, atol=1e-2)


@pytest.mark.parametrize("dit", ["flux", "chroma"], indirect=True)
def test_networks_of_flux1s_depth_have_the_published_blocks(dit):
    """Without their weights; a network of another depth has its later half."""
    small, given = tiny_dit(dit), sizes_of(dit, tiny_dits.WIDTH_TEXT, tiny_dits.WIDTH_POOLED)
    config = KINDS[dit][0]({**given, "depth": 19, "depth_single_blocks": 38})
    config.set_inference_dtype(torch.float32, torch.float32)
    deep = config.get_model({}, "", device=torch.device("meta")).diffusion_model
    family = family_of(small, "Test")
    assert family.preset(deep, COARSE) == tuple(f"double{n}" for n in range(10, 19))
    assert family.preset(deep, LATE)[-2:] == ("single31", "single37")
    later = tuple(f"single{n}" for n in range(3))
    assert family.preset(small.model.diffusion_model, COARSE) == later


def test_a_family_without_a_row_is_refused_by_name():
    class Sibling(type(tiny_dit("chroma").model.diffusion_model)):
        pass

    Sibling.__module__ = "comfy.ldm.chroma_radiance.model"
    assert row_of(object.__new__(Sibling)) is None
    other = tiny_model("sd1")
    other.object_patches = {"diffusion_model": torch.nn.Linear(1, 1)}
    with pytest.raises(ValueError, match=r"Test: expected a U-Net image model .* or a transformer \(Flux\.1, .*got "):
        family_of(other, "Test")


@pytest.mark.parametrize(
    ("module", "name", "base"),
    [
        ("hidream.model", "HiDreamImageTransformer2DModel", "HiDream"),
        ("wan.model", "WanModel", "WAN21"),
        ("hunyuan_video.model", "HunyuanVideo", "HunyuanVideo"),
        ("pixart.pixartms", "PixArtMS", "PixArt"),
        ("aura.mmdit", "MMDiT", "AuraFlow"),
    ],
)
def test_families_of_the_host_that_have_no_row(module, name, base):
    network = object.__new__(getattr(importlib.import_module(f"comfy.ldm.{module}"), name))
    torch.nn.Module.__init__(network)
    other = tiny_model("sd1")
    other.model, other.object_patches = object.__new__(getattr(comfy.model_base, base)), {"diffusion_model": network}
    with pytest.raises(
        ValueError, match=rf"or a transformer \(Flux\.1, .*\), got {base}, which is not supported yet; "
    ):
        family_of(other, "Test")


def test_a_host_that_does_not_number_blocks_is_refused(monkeypatch):
    model = tiny_dit("anima")
    attention = model.model.diffusion_model.blocks[0].self_attn
    monkeypatch.setattr(attention, "compute_qkv", lambda x, context=None, rope_emb=None: None, raising=False)
    with pytest.raises(ValueError, match=r"Test: expected a ComfyUI that numbers the blocks of Anima models, got"):
        family_of(model, "Test")


def test_tokens():
    tokens = Tokens((2, 3), first=4, after=5, text=(1, 4))
    values = torch.arange(15)[None, :, None]
    assert tokens.of_picture(values).flatten().tolist() == [4, 5, 6, 7, 8, 9]
    first = tokens.picture_first
    assert (first.first, first.after, first.total) == (0, 9, 15)
    reordered = tokens.reordered(values)
    assert torch.equal(first.of_picture(reordered), tokens.of_picture(values))
    assert torch.equal(first.of_text(reordered), tokens.of_text(values))
    assert torch.equal(tokens.restored(reordered), values)


def test_rotations_are_exact_by_hand():
    angle = math.pi / 2
    quarter = torch.tensor([[[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]])
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])  # two heads of two channels
    torch.testing.assert_close(rotated(x, quarter), torch.tensor([[[-2.0, 1.0, -4.0, 3.0]]]))
    both = quarter.expand(2, 2, 2)  # one head of four channels
    torch.testing.assert_close(rotated(x, both, halves=True), torch.tensor([[[-3.0, -4.0, 1.0, 2.0]]]))
