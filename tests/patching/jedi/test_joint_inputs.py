"""Inputs that do not fit the model or each other raise one sentence."""

import pytest
import torch
from likeness.kernels.jedi import MASK_FIRST, NOISY_FIRST
from likeness.patching.jedi.build import ONE_IS_GIVEN
from likeness.patching.jedi.format import ATTACHMENT, JointFormat
from likeness.tests.patching.jedi.joint_runs import Captions, reference, run
from likeness.tests.patching.layout_and_retouch.retouch_runs import retouched
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model

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
        "got 3 captions for 1 of them",
    ),
    "caption of nothing": ({"caption": conditioning(SD1)}, "expected references for the caption to describe, got none"),
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
        "expected a model without Reference Retouch or Subject Guidance",
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
        "expected a joint checkpoint that states the order of its 9 input channels, got one that does not",
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
    assert (
        text.startswith("Joint Image Sampler: expected ") and "; " in text and text.endswith(".") and "\n" not in text
    )


def test_another_order_than_the_checkpoint_says():
    stated = NINE.clone()
    stated.set_attachments(ATTACHMENT, JointFormat(MASK_FIRST))
    with pytest.raises(ValueError, match="expected the channel order of the checkpoint"):
        run(stated, channel_order=NOISY_FIRST)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"start_percent": 0.3, "end_percent": 0.31}, "no effect on this run"),
        ({"start_percent": 0.6, "query_blend": 0.9, "query_blend_end": 0.1}, "query_blend had no effect on this run"),
        ({"start_percent": 0.3, "end_percent": 0.3}, ""),
        ({"query_blend": 0.9, "query_blend_end": 0.1}, ""),
    ],
)
def test_what_never_acts_is_logged(options, message, caplog):
    run(SD1, references=[reference(SD1)], **options)
    assert [message in record.message for record in caplog.records if record.levelname == "WARNING"] == [True] * bool(
        message
    )
