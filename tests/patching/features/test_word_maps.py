"""LikenessAttentionMaps on tiny real U-Nets with ComfyUI's real tokenizers."""

import comfy.model_management
import comfy.model_sampling
import comfy.sd1_clip
import comfy.sdxl_clip
import pytest
import torch
from likeness.kernels.attention import attention_probabilities
from likeness.patching.features import word_maps as module
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host.families import discover
from likeness.patching.host.passes import noise_levels
from likeness.patching.host.window import Window
from likeness.tests.patching.parts_of_runs import in_tiles, in_windows
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler, tiny_model

TEXT = "a photo of a (red:1.2) cat"


class Clip:
    """A real tokenizer and random text features."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)

    def encode_from_tokens_scheduled(self, tokens):
        return conditioning(None, tokens=sum(map(len, next(iter(tokens.values())))), seed=20)


class Autoencoder:
    def decode(self, samples):
        return torch.rand(
            len(samples), 8 * samples.shape[2], 8 * samples.shape[3], 3, generator=torch.Generator().manual_seed(0)
        )


@pytest.fixture(scope="module")
def clip():
    return Clip(comfy.sd1_clip.SD1Tokenizer())


def maps(
    model,
    clip,
    *,
    image=None,
    text=TEXT,
    word="cat",
    blocks="all",
    group_by="together",
    window=None,
    levels=1,
    seed=0,
    vae=None,
):
    image = latent() if image is None else image
    return word_maps(
        model,
        clip,
        image,
        text=text,
        word=word,
        blocks=blocks,
        group_by=group_by,
        window=window or Window(0.2, 0.8),
        levels=levels,
        seed=seed,
        vae=vae,
    )


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (3, 9, 11)])
def test_shapes_and_ranges(family, clip, batch, height, width):
    tokenized = clip if family != "sdxl" else Clip(comfy.sdxl_clip.SDXLTokenizer())
    result = maps(tiny_model(family), tokenized, image=latent(batch, height, width), group_by="part")
    assert result.groups == ("encoder", "middle", "decoder")
    assert result.heatmaps.shape == (3 * batch, 8 * height, 8 * width) and result.heatmaps.dtype == torch.float32
    assert result.heatmaps.amin() == 0 and result.heatmaps.amax() == 1
    assert result.preview.shape == (batch, 8 * height + 16, 4 * 8 * width, 3)
    assert result.preview.amin() >= 0 and result.preview.amax() <= 1


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("together", ["all blocks"]),
        ("part", ["encoder", "middle", "decoder"]),
        ("size", ["12 x 8", "6 x 4", "3 x 2", "2 x 1"]),
        (
            "block",
            [
                "input1",
                "input2",
                "input4",
                "input5",
                "input7",
                "input8",
                "middle0",
                *(f"output{n}" for n in range(3, 12)),
            ],
        ),
    ],
)
def test_groups(clip, group_by, expected):
    result = maps(tiny_model("sd1"), clip, image=latent(2, 8, 12), group_by=group_by)
    assert list(result.groups) == expected and len(result.heatmaps) == 2 * len(expected)


def test_a_pass_ends_with_the_last_map(clip):
    """The word's attention needs no prediction, and so no layers after the last map."""
    model, later = tiny_model("sd1"), []
    wrapped = run_to_its_end(model)
    block = model.model.diffusion_model.output_blocks[9][0]
    hook = block.register_forward_pre_hook(lambda *_: later.append(1))
    try:
        found, calls = [], []
        for one in (model, wrapped):  # a wrapper may call the network again
            found.append(maps(one, clip, image=latent(2), blocks="output3-8", levels=2).heatmaps)
            calls.append(len(later))
    finally:
        hook.remove()
    assert calls == [0, 2] and torch.equal(*found)


def run_to_its_end(model):
    """A clone with another node's wrapper, which may call the network again, so that no reader ends its pass."""
    wrapped = model.clone()
    wrapped.set_model_unet_function_wrapper(lambda apply, given: apply(given["input"], given["timestep"], **given["c"]))
    return wrapped


def test_context_windows_of_a_batch_give_the_batch(clip):
    """Overlapping windows show some pictures twice."""
    model, pictures = tiny_model("sd1"), latent(3, 9, 11)
    together = maps(model, clip, image=pictures, levels=2)
    found = maps(in_windows(model, 2), clip, image=pictures, levels=2)
    assert torch.allclose(found.heatmaps, together.heatmaps, atol=1e-4)
    assert found.preview.shape == together.preview.shape
    assert not torch.allclose(together.heatmaps[0], together.heatmaps[1], atol=0.01)


@pytest.mark.parametrize("together", [False, True])
def test_parts_of_a_picture_are_refused(clip, together):
    with pytest.raises(ValueError, match=r"^Attention Maps of a Word: expected model calls with .*; remove the node"):
        maps(in_tiles(tiny_model("sd1"), together), clip, image=latent(2, 8, 8))


def test_the_map_is_the_words_share_of_attention(clip):
    """One block, one noise level: the node's heatmap from the probabilities that the layer itself used, summed over the
    word's tokens."""
    model, seen = run_to_its_end(tiny_model("sd1")), []

    def keep(function, q, k, v, heads, *args, **kwargs):
        if kwargs["transformer_options"]["block"] == ("output", 9) and k.shape[1] == 77:
            seen.append(attention_probabilities(q, k, heads).mean(1))
        return function(q, k, v, heads, *args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = keep
    result = maps(model, clip, image=latent(2), word="red cat", blocks="output9", window=Window(0.5, 0.5))
    assert len(seen) == 1 and seen[0].shape == (2, 64, 77)
    share = seen[0][..., 5] + seen[0][..., 6]
    share = torch.nn.functional.interpolate(share.view(2, 1, 8, 8), (64, 64), mode="bilinear")[:, 0]
    low, high = share.amin((1, 2), keepdim=True), share.amax((1, 2), keepdim=True)
    torch.testing.assert_close(result.heatmaps, (share - low) / (high - low), rtol=1e-3, atol=1e-4)


def test_words_have_different_maps_and_order_of_images_is_kept(clip):
    model, pair = tiny_model("sd2"), latent(2)
    cat, red = maps(model, clip, image=pair), maps(model, clip, image=pair, word="red")
    assert not torch.equal(cat.heatmaps, red.heatmaps)
    flipped = {"samples": pair["samples"].flip(0), "batch_index": [1, 0]}
    torch.testing.assert_close(maps(model, clip, image=flipped).heatmaps.flip(0), cat.heatmaps, rtol=1e-3, atol=1e-3)


def test_a_long_prompt_and_the_padding_words(clip):
    text = "stone " * 90 + "cat"
    assert maps(tiny_model("sd1"), clip, text=text).heatmaps.amax() == 1


def test_same_seed_same_map_other_seed_other_map(clip):
    model = tiny_model("sd1")
    first = maps(model, clip, seed=1).heatmaps
    assert torch.equal(first, maps(model, clip, seed=1).heatmaps) and not torch.equal(
        first, maps(model, clip, seed=2).heatmaps
    )


def test_inputs_are_untouched(clip):
    model, image = tiny_model("sd1"), latent()
    before, samples = repr(model.model_options), image["samples"].clone()
    maps(model, clip, image=image)
    assert repr(model.model_options) == before and not model.wrappers and torch.equal(image["samples"], samples)
    assert torch.equal(run_ksampler(model), run_ksampler(tiny_model("sd1")))


def test_interrupt_stops_it_and_the_next_run_works(clip):
    model = tiny_model("sd1")
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        maps(model, clip, levels=3)
    assert maps(model, clip).heatmaps.amax() == 1


def test_a_model_without_noise_is_refused(clip):
    """A shift of 0 gives a flow model the noise level 0 throughout."""
    model = tiny_model("sd1").clone()
    sampling = type("Sampling", (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST), {})()
    sampling.set_parameters(shift=0.0)
    model.add_object_patch("model_sampling", sampling)
    with pytest.raises(ValueError, match="expected a model with noise levels above 0, got nan to 0; change"):
        maps(model, clip)


def test_noise_levels_lie_in_the_window():
    sampling = tiny_model("sd1").get_model_object("model_sampling")
    levels = noise_levels(Window(0.2, 0.8), 5, sampling, "test")
    edges = [float(sampling.percent_to_sigma(p)) for p in (0.2, 0.8)]
    assert (
        len(levels) == 5
        and list(levels) == sorted(levels, reverse=True)
        and edges[0] > levels[0] > levels[-1] > edges[1]
    )
    assert noise_levels(Window(0.5, 0.5), 4, sampling, "test") == (float(sampling.percent_to_sigma(0.5)),)
    assert noise_levels(Window(0.0, 0.0), 2, sampling, "test") == (float(sampling.sigma_max),)
    assert noise_levels(Window(1.0, 1.0), 2, sampling, "test") == (float(sampling.sigma_min),)


def test_the_picture_lies_under_the_preview(clip):
    vae = Autoencoder()
    preview = maps(tiny_model("sd1"), clip, vae=vae).preview
    torch.testing.assert_close(preview[:, 16:, :64], vae.decode(latent()["samples"]))


def refuse(message, **settings):
    with pytest.raises(ValueError) as error:
        maps(**settings)
    text = str(error.value)
    assert (
        text.startswith("Attention Maps of a Word: expected ")
        and message in text
        and ", got " in text
        and text.count("\n") == 0
    )


def test_bad_input_gets_one_sentence(clip, monkeypatch):
    def unreachable(*args):
        raise AssertionError("the model was asked")

    monkeypatch.setattr(module, "run_pass", unreachable)
    model = tiny_model("sd1")
    good = {"model": model, "clip": clip}
    refuse("a word of the prompt (a, photo, of, red, cat), got 'dog'; change word", **good, word="dog")
    refuse("blocks among input1", **good, blocks="input3")
    refuse("at least one block", **good, blocks="")
    refuse("got none, as from a checkpoint without text encoder", model=model, clip=None)
    refuse("the LATENT of a picture, got an empty one", **good, image={"samples": torch.zeros(1, 4, 8, 8)})
    refuse("4 channels", **good, image={"samples": torch.ones(1, 16, 8, 8)})
    refuse("got 5 dimensions", **good, image={"samples": torch.ones(1, 4, 2, 8, 8)})
    refuse("start_percent up to end_percent, got 0.8 and 0.2", **good, window=Window(0.8, 0.2))


def test_blocks_are_read_where_they_are_named(clip):
    model = tiny_model("sdxl")
    names = [b.name for b in discover(model, "Node")]
    assert maps(model, Clip(comfy.sdxl_clip.SDXLTokenizer()), blocks="output1, output0", group_by="block").groups == (
        "output0",
        "output1",
    )
    assert {"output0", "output1"} < set(names)
