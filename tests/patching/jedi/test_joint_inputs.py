"""What a set is made of: references of any size, texts that go together, checkpoints that say what they are; the rest
is one sentence."""

from dataclasses import replace

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.kernels.jedi import MASK_FIRST, NOISY_FIRST
from likeness.patching.features.references import references
from likeness.patching.jedi.build import AUTOMATIC, ONE_IS_GIVEN, ONE_IS_MISSING, format_of
from likeness.patching.jedi.coupling import Coupling
from likeness.patching.jedi.format import ATTACHMENT, METADATA_KEY, JointFormat
from likeness.patching.jedi.members import fitted, stacked
from likeness.patching.jedi.sampling import sample_set
from likeness.tests.patching.jedi.joint_runs import STEPS, Captions, guider_of, prompts, reference, run
from likeness.tests.patching.layout_and_retouch.retouch_runs import retouched
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


class Encoder:
    """A VAE whose latents are the mean colours of 8 x 8 pixels, and the brightness; it counts what it is asked for."""

    def __init__(self):
        self.sizes = []

    def encode(self, image):
        self.sizes.append(tuple(image.shape[1:3]))
        height, width = (n // 8 * 8 for n in image.shape[1:3])
        top, left = ((n - m) // 2 for n, m in zip(image.shape[1:3], (height, width), strict=True))
        cells = (
            image[:, top : top + height, left : left + width].unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).mean((2, 4))
        )
        return torch.cat([cells, cells.mean(-1, keepdim=True)], -1).movedim(-1, 1) + 0.1


def picture(model, height, width, mask=None, encoder=None):
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(4))
    return references(image, encoder or Encoder(), conditioning(model), "noised", 0, mask, 1.0, "test").items[0]


def test_a_reference_of_the_same_size_is_taken_as_it_is():
    item = picture(tiny_model("sd1"), 64, 64)
    member = fitted(item, 8, 8, "test")
    assert member.samples is item.latent["samples"] and member.tokens((4, 4)) is None


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(128, 64, slice(0, 8), slice(2, 6)), (40, 80, slice(2, 6), slice(0, 8)), (37, 51, slice(1, 6), slice(0, 8))],
)
def test_a_picture_of_another_size_is_scaled_and_only_it_is_looked_at(height, width, rows, columns):
    encoder = Encoder()
    item = picture(tiny_model("sd1"), height, width, encoder=encoder)
    member = fitted(item, 8, 8, "test")
    assert member.samples.shape == (1, 4, 8, 8)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[rows, columns] = True
    assert member.tokens((8, 8)).tolist() == inside.flatten().nonzero()[:, 0].tolist()
    assert fitted(item, 8, 8, "test") is member and len(encoder.sizes) == 2, "encoded once per size"


def test_a_square_picture_of_another_size_is_looked_at_as_a_whole():
    assert fitted(picture(tiny_model("sd1"), 96, 96), 8, 8, "test").tokens((8, 8)) is None


def test_the_mask_goes_where_the_picture_goes():
    mask = torch.zeros(1, 128, 64)
    mask[:, 64:, :] = 1
    item = picture(tiny_model("sd1"), 128, 64, mask)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, 2:6] = True
    assert fitted(item, 8, 8, "test").tokens((8, 8)).tolist() == expected.flatten().nonzero()[:, 0].tolist()
    assert fitted(item, 16, 8, "test").tokens((16, 8)).tolist() == list(range(64, 128))


def test_a_small_latent_is_padded():
    member = fitted(reference(tiny_model("sd1"), height=4, width=6), 8, 8, "test")
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 1:7] = True
    assert member.tokens((8, 8)).tolist() == expected.flatten().nonzero()[:, 0].tolist()


def test_references_and_pictures_of_many_sizes(model):
    references = [reference(model, 20, 6, 8), picture(model, 40, 90), reference(model, 22, 8, 9)]
    assert run(model, references=references, height=8, width=9).shape == (2, 4, 8, 9)


def test_a_latent_is_as_many_references_as_it_has_pictures(model):
    samples = latent(2)
    caption = conditioning(model, seed=60)
    guider = guider_of(model, references=samples, caption=caption)
    assert [r.conditioning for r in guider._references] == [caption, caption]
    made = run(model, references=samples, caption=caption)
    first = run(model, references={"samples": samples["samples"][:1]}, caption=caption)
    assert made.shape == (2, 4, 8, 8) and not torch.allclose(made, first, atol=1e-3)


def test_a_caption_for_each_reference(model):
    references, texts = (
        [reference(model, 20), reference(model, 21)],
        [conditioning(model, seed=60), conditioning(model, seed=61)],
    )
    guider = guider_of(model, references=references, caption=Captions(texts))
    assert [r.conditioning for r in guider._references] == texts


def test_one_prompt_is_that_of_a_whole_batch(model):
    made = run(model, prompts(model, 1), [reference(model)], batch=3, seeds=(1, 2, 3))
    same = run(model, prompts(model, 1) * 3, [reference(model)], seeds=(1, 2, 3))
    assert torch.equal(made, same)


def test_stacked_texts_keep_their_rows():
    model = tiny_model("sdxl")
    texts = [conditioning(model, tokens=7, seed=1), conditioning(model, tokens=14, seed=2)]
    ((text, rest),) = stacked(texts, True, "test")
    assert torch.equal(text[0], texts[0][0][0][0].repeat(2, 1)) and torch.equal(text[1], texts[1][0][0][0])
    assert torch.equal(rest["pooled_output"], torch.cat([t[0][1]["pooled_output"] for t in texts]))
    assert stacked([texts[0], [[texts[1][0][0], {}]]], False, "test")[0][1] == {}, "a model that looks at none"
    assert stacked([conditioning(model, tokens=4), conditioning(model, tokens=6)], True, "test")[0][0].shape[1] == 12


def test_a_format_survives_its_metadata():
    for told in (JointFormat(MASK_FIRST), JointFormat(NOISY_FIRST), JointFormat(MASK_FIRST, False)):
        assert JointFormat.of(told.metadata()) == told
    assert JointFormat.of({METADATA_KEY: '{"channel_order": "mask, noisy, clean"}'}) == JointFormat(MASK_FIRST)
    assert JointFormat.of({"other": "1"}) is None and JointFormat.of(None) is None
    unclear = '{"channel_order": "mask, noisy, clean", "one_is_missing": "false"}'
    for broken in ("{", "[]", "{}", '{"channel_order": "clean first"}', unclear):
        with pytest.raises(ValueError, match="expected"):
            JointFormat.of({METADATA_KEY: broken})


def test_the_format_of_a_model():
    nine = tiny_model("sd1", channels=9)
    assert format_of(tiny_model("sd1"), AUTOMATIC, ONE_IS_MISSING, "test") is None
    assert format_of(nine, NOISY_FIRST, ONE_IS_MISSING, "test") == JointFormat(NOISY_FIRST)
    assert format_of(nine, NOISY_FIRST, ONE_IS_GIVEN, "test") == JointFormat(NOISY_FIRST, False)
    told = nine.clone()
    told.set_attachments(ATTACHMENT, JointFormat(MASK_FIRST))
    found = [format_of(told.clone(), order, ONE_IS_MISSING, "test") for order in (AUTOMATIC, MASK_FIRST)]
    assert found == [JointFormat(MASK_FIRST)] * 2


SD1, NINE = tiny_model("sd1"), tiny_model("sd1", channels=9)
OTHER = [[torch.randn(1, 7, 32), {}]]
TWO = [*conditioning(SD1), *conditioning(SD1)]
SWAPPED = retouched(SD1, [reference(SD1)])
RESCALED = SD1.clone()
RESCALED.set_model_sampler_cfg_function(lambda args: args["uncond"])
PROJECTED = SD1.clone()
PROJECTED.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])
BAD = {
    "prompts and seeds": (
        {"seeds": (1, 2, 3)},
        "expected one seed, or as many as there are pictures, got 3 seeds for 2 pictures",
    ),
    "prompts and latents": (
        {"batch": 3},
        "expected a latent of one picture, or of as many as there are prompts, got 3 for 2 prompts",
    ),
    "large latent": (
        {"references": latent(1, 8, 12)},
        "expected references that fit into the latent of 8 x 8, got one of 12 x 8",
    ),
    "empty latent": (
        {"references": {"samples": torch.zeros(1, 4, 8, 8)}},
        "expected the LATENT of a picture, got an empty one",
    ),
    "channels": (
        {"references": {"samples": torch.ones(1, 16, 8, 8)}},
        "expected a LATENT of 4 channels, as the model has, got 16",
    ),
    "weight": (
        {"references": [reference(SD1, weight=2.0)]},
        "expected references of weight 1, .* got 2; set weight to 1",
    ),
    "combined prompt": ({"texts": [TWO, conditioning(SD1)]}, "expected one prompt, got 2 combined"),
    "area": ({"texts": [[[TWO[0][0], {"area": (4, 4, 0, 0)}]]] * 2}, "expected a plain prompt, got one with area"),
    "combined caption": (
        {"references": [reference(SD1)], "caption": TWO},
        "expected one caption of a reference, got 2 combined",
    ),
    "family of a prompt": ({"texts": [OTHER, OTHER]}, "expected a prompt made with this model's own text encoder"),
    "family of a caption": (
        {"references": [reference(SD1)], "caption": OTHER},
        "expected a caption made with this model's own text enc",
    ),
    "texts in a batch": (
        {"texts": [conditioning(SD1, rows=2), conditioning(SD1)]},
        "of one text each, got a batch of 2 in one",
    ),
    "captions": (
        {"references": [reference(SD1)], "caption": Captions([conditioning(SD1)] * 3)},
        "got 3 for 1 references",
    ),
    "caption of nothing": ({"caption": conditioning(SD1)}, "got 1 for 0 references"),
    "combined negative": ({"negative": TWO}, "expected one negative prompt, got 2 combined"),
    "area of the negative": (
        {"negative": [[TWO[0][0], {"area": (4, 4, 0, 0)}]]},
        "expected a plain negative prompt, got one with area",
    ),
    "polarity": ({"mask_polarity": ONE_IS_GIVEN}, "expected mask_polarity 1 is missing with channel_order automatic"),
    "negative as caption": (
        {"references": latent(1), "negative": TWO},
        "expected one negative prompt, which is the references' caption",
    ),
    "retouch": (
        {"model": SWAPPED, "references": [reference(SD1)]},
        "expected a model without MultiSourceAttnSwap and UREMDGuidance",
    ),
    "guidance before": (
        {"model": PROJECTED, "references": [reference(SD1)], "guidance": "image_first"},
        "sampler_pre_cfg_function",
    ),
    "guidance function": (
        {"model": RESCALED, "references": [reference(SD1)], "guidance": "text_first"},
        "sampler_cfg_function",
    ),
    "fields": (
        {"texts": [conditioning(SD1), [[TWO[0][0], {**TWO[0][1], "width": 8}]]]},
        "that differ in their text alone, got others in width",
    ),
    "image_first alone": ({"guidance": "image_first"}, "expected references for guidance image_first, got none"),
    "text_only alone": ({"guidance": "text_only"}, "expected references for guidance text_only, got none"),
    "blocks": ({"blocks": "output99"}, "expected blocks among"),
    "unknown order": (
        {"model": NINE},
        "expected a joint checkpoint that tells the order of its 9 input channels, got one that does not",
    ),
    "order of four channels": (
        {"channel_order": MASK_FIRST},
        "expected a joint checkpoint of 9 input channels for channel_order",
    ),
    "five channels": (
        {"model": tiny_model("sd1", channels=5)},
        "input channels or a joint checkpoint of 9, got one of 5",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name):
    given, sentence = BAD[name]
    options = dict(given)
    with pytest.raises(ValueError, match=sentence) as caught:
        run(options.pop("model", SD1), **options)
    text = str(caught.value)
    assert text.startswith("JointImageSampler: expected ") and "; " in text and text.endswith(".") and "\n" not in text


def test_another_order_than_the_checkpoint_says():
    told = NINE.clone()
    told.set_attachments(ATTACHMENT, JointFormat(MASK_FIRST))
    with pytest.raises(ValueError, match="expected the channel order of the checkpoint"):
        run(told, channel_order=NOISY_FIRST)


def test_what_divides_attention_is_refused():
    coupling = Coupling("test", 2)
    with pytest.raises(ValueError, match="test: expected 2 pictures of 16 positions in attention, got 4 of 4"):
        coupling.attend(None, *[torch.zeros(4, 4, 8)] * 3, None, (4, 4))


def test_the_blend_of_queries_by_hand():
    own, alone = torch.randn(3, 5, 2), torch.randn(2, 5, 2)
    queries, keys, values = Coupling("test", 3, vanilla={"layer": alone}, blend=0.25).inputs(
        "layer", own, own, own, (5, 1)
    )
    torch.testing.assert_close(queries[:2], 0.75 * own[:2] + 0.25 * alone)
    assert torch.equal(queries[2:], own[2:]) and keys is own and values is own


def test_dropped_tokens_are_others_at_every_level():
    model = tiny_model("sd1")
    guider = guider_of(model, references=[reference(model)], token_dropout=0.5)
    seen = {}

    def spy(executor, x, t, concat, text, control, options, **kwargs):
        for hook in options.get("patches_replace", {}).get("attn1", {}).values():
            seen[float(t[0])] = hook.change.lent((8, 8))
        return executor(x, t, concat, text, control, options, **kwargs)

    guider.model_patcher.add_wrapper(WrappersMP.APPLY_MODEL, spy)
    sample_set(guider, {"samples": torch.zeros(1, 4, 8, 8)}, 2, [1], STEPS, "euler", "normal", 1.0, "test")
    levels = list(seen.values())
    assert len(levels) == STEPS
    assert all([len(t) for t in lent] == [32, 32, 32] for lent in levels) and all(
        t.unique().numel() == 32 for lent in levels for t in lent
    )
    assert levels[0][0].tolist() != levels[0][1].tolist() and levels[0][0].tolist() != levels[1][0].tolist()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"start_percent": 0.3, "end_percent": 0.31}, "had no effect on this run"),
        ({"start_percent": 0.6, "query_blend": 0.9, "query_blend_end": 0.1}, "query_blend had no effect on this run"),
        ({"start_percent": 0.3, "end_percent": 0.3}, ""),
        ({"query_blend": 0.9, "query_blend_end": 0.1}, ""),
    ],
)
def test_what_never_acts_is_told(options, told, caplog):
    run(SD1, references=[reference(SD1)], **options)
    assert [told in record.message for record in caplog.records if record.levelname == "WARNING"] == [True] * bool(told)


def test_references_without_their_picture_are_known_by_their_latent():
    item = replace(picture(SD1, 96, 64), image=None, vae=None)
    with pytest.raises(ValueError, match="expected references that fit into the latent"):
        fitted(item, 8, 8, "JointImageSampler")
