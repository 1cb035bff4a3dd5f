"""Maps of words in diffusion transformers: attention maps, templates and masks, on the host's own tokenizers."""

import pytest
import torch
from likeness.patching.features.sources import noised_source
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host.families import discover, family_of
from likeness.patching.host.passes import noise_levels, run_pass
from likeness.patching.host.window import ALWAYS, Window
from likeness.patching.host.words import find_word
from likeness.patching.pick_and_draw.build_template import Sampling, draw_template, record_template
from likeness.tests.patching.host.text_encoders import clip_of
from likeness.tests.patching.tiny_dits import WITH_FRAMES, latent, tiny_dit

TEXT, WORD = "a photo of a red cat", "red cat"


def maps(dit: str, image: dict, **options):
    given = {"blocks": "all", "group_by": "together", "window": ALWAYS, "levels": 1, "seed": 0, **options}
    return word_maps(tiny_dit(dit), clip_of(dit), image, text=TEXT, word=WORD, node="Node", **given)


class Seen:
    """An attention override, not of the pack, that keeps what the first block's attention to text sees."""

    def __init__(self, family: str, block: str, picture: int):
        self.family, self.block, self.picture = family, block, picture
        self.call = None

    def __call__(self, func, q, k, v, heads, *args, **kwargs):
        options, split = kwargs.get("transformer_options") or {}, kwargs.get("skip_reshape")
        flat = [t.transpose(1, 2).flatten(2) if split else t for t in (q, k)]
        name = f"{options.get('block_type', 'block')}{options.get('block_index')}"
        joint = flat[0].shape[1] > self.picture if self.family == "sd3" else name == self.block
        crosses = self.family != "anima" or flat[1].shape[1] != flat[0].shape[1]
        if self.call is None and joint and crosses:
            self.call = (*flat, heads)
        return func(q, k, v, heads, *args, **kwargs)


def by_hand(dit: str, image: dict) -> torch.Tensor:
    """The word's map at the first block: softmax over the text's tokens alone, for every token of the picture."""
    model, clip = tiny_dit(dit), clip_of(dit)
    samples = image["samples"]
    patch = 1 if dit == "flux2" else 2
    height, width = (-(-n // patch) for n in samples.shape[-2:])
    picture, block = height * width, discover(model, "Node")[0].name
    seen = Seen(dit, block, picture)
    model.model_options["transformer_options"]["optimized_attention_override"] = seen
    (sigma,) = noise_levels(ALWAYS, 1, model.get_model_object("model_sampling"), "Node")
    source = noised_source(model, image, 0, "Node")
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))
    run_pass(model, conditioning, samples, [sigma], lambda denoise, c: denoise(source.at(sigma).to(c), sigma))
    assert seen.call is not None
    q, k, heads = seen.call
    if dit == "anima":
        queries, keys = q, k
    else:  # of Z-Image the picture is filled to a multiple of 32 tokens
        first = q.shape[1] - picture - (-picture % 32 if dit == "zimage" else 0)
        queries, keys = q[:, first : first + picture], k[:, :first]
    queries, keys = (t.unflatten(-1, (heads, -1)) for t in (queries, keys))
    scores = torch.einsum("bnhd,bmhd->bhnm", queries, keys) * queries.shape[-1] ** -0.5
    columns = find_word(clip, TEXT, WORD, "Node").tokens
    heat = scores.softmax(-1).mean(1)[..., list(columns)].sum(-1).view(-1, height, width)
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    return (heat - low) / (high - low)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9)])
def test_a_map_is_the_attention_to_the_words_columns(dit, height, width):
    image = latent(dit, 2, height, width)
    found = maps(dit, image, blocks=discover(tiny_dit(dit), "Node")[0].name)
    expected = by_hand(dit, image)
    ratio = 16 if dit == "flux2" else 8
    assert found.heatmaps.shape == (2, height * ratio, width * ratio)
    assert found.preview.shape[1:3] == (height * ratio + 16, 2 * width * ratio)
    pixels = torch.nn.functional.interpolate(expected[:, None], found.heatmaps.shape[1:], mode="bilinear")[:, 0]
    low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found.heatmaps, (pixels - low) / (high - low), rtol=0, atol=2e-3)


def test_maps_by_block_and_part_have_the_hosts_names(dit):
    names = [block.name for block in discover(tiny_dit(dit), "Node")]
    assert list(maps(dit, latent(dit), group_by="block").groups) == names
    parts = {name.rstrip("0123456789") for name in names}
    assert set(maps(dit, latent(dit), group_by="part").groups) == parts


@pytest.mark.parametrize("dit", sorted(WITH_FRAMES))
def test_a_latent_without_frames_is_that_of_one(dit):
    """An autoencoder of pictures gives such latents; core's samplers take them, too."""
    framed = latent(dit, 2)
    found, expected = (maps(dit, {"samples": s}) for s in (framed["samples"][:, :, 0], framed["samples"]))
    assert torch.equal(found.heatmaps, expected.heatmaps) and torch.equal(found.preview, expected.preview)


def test_a_template_is_recorded(dit):
    model, clip = tiny_dit(dit), clip_of(dit)
    sampling = Sampling(seed=1, steps=2, cfg=1.0, sampler="euler", scheduler="simple", denoise=1.0)
    empty = {"samples": torch.zeros_like(latent(dit, 2, 7, 9)["samples"])}
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    template, made = record_template(
        model,
        clip,
        text=TEXT,
        word=WORD,
        negative=negative,
        latent=empty,
        sampling=sampling,
        blocks="all",
        window=Window(0.0, 1.0),
    )
    grid = (7, 9) if dit == "flux2" else (4, 5)
    layers = {layer for block in discover(model, "Node") for layer in block.layers}
    assert template.layers == layers and made["samples"].shape == empty["samples"].shape
    assert all(m.shape == (2, *grid) for levels in template.maps.values() for m in levels.values())
    assert all(len(levels) == 2 for levels in template.maps.values())
    template.check(torch.zeros_like(made["samples"]), "Node")
    with pytest.raises(ValueError, match="expected a template of the latent's shape"):
        template.check(latent(dit, 2, 9, 7)["samples"], "Node")
    assert draw_template(model, None, "0 0 0.5 1", empty).family == family_of(model, "Node").name
