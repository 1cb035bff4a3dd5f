"""A mask's words are looked up in a text, which must be the prompt of the run that the mask follows."""

import pytest
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.mask import PER_STEP, build_mask
from likeness.tests.patching.editor import executing, open_editor
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    POSITIVE,
    disc,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of
from likeness.tests.patching.tiny_models import conditioning, tiny_model

NODE, SAMPLER = "7", "9"
TOLD = {NODE: "Warning: Expected text to be the sampler's"}


@pytest.fixture
def model():
    return tiny_model("sd1")


def sampled(model, prompts):
    """Samples with a mask whose text is the prompt POSITIVE."""
    _, trajectory = layout(model)
    followed = mask(
        tokens=(1,), prompt_length=7, prompt=conditioning(model, seed=POSITIVE)[0][0], notices=Notices("Mask", NODE)
    )
    patched = retouched(model, [reference(model)], layout=trajectory, mask=followed)
    with executing(SAMPLER):
        run(patched, prompt=prompts)


@pytest.mark.parametrize(("prompt", "shown"), [(POSITIVE, {}), (99, TOLD)])
def test_another_text_is_told_on_the_masks_node(monkeypatch, model, prompt, shown):
    editor = open_editor(monkeypatch)
    sampled(model, prompt)
    assert editor.shown.keys() == shown.keys()
    assert all(editor.shown[node].startswith(text) for node, text in shown.items())


def test_one_of_several_prompts_is_told(model):
    followed = mask(tokens=(1,), prompt_length=7, prompt=conditioning(model, seed=POSITIVE)[0][0])
    entries = [{"cross_attn": conditioning(model, seed=seed)[0][0]} for seed in (POSITIVE, 99)]
    followed.check_prompts(entries[:1])
    assert followed.notices.sentences == ()
    followed.check_prompts(entries)
    (sentence,) = followed.notices.sentences
    assert "expected one positive prompt, got 2, of which 1 differ" in sentence.lower()


def test_a_made_mask_knows_its_prompt():
    clip = clip_of()
    made = build_mask(disc(), None, PER_STEP, clip, "a photo of red cat", "cat", "decoder")
    made.check_prompts([{"cross_attn": clip.encode_from_tokens_scheduled(clip.tokenize("a photo of red cat"))[0][0]}])
    assert made.follows and made.notices.sentences == ()
    made.check_prompts([{"cross_attn": clip.encode_from_tokens_scheduled(clip.tokenize("a photo of red dog"))[0][0]}])
    assert len(made.notices.sentences) == 1
