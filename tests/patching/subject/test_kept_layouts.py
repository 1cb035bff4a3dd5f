"""A layout is kept only for a model that a later run can recognize whole, and for the same subject."""

from dataclasses import replace

import pytest
from likeness.patching.host.run import KEY
from likeness.tests.patching.subject.likeness_runs import models
from likeness.tests.patching.subject.test_sampler_inputs import inputs


def test_a_layout_under_foreign_guidance_is_drawn_anew():
    guided = models()["vanilla"].clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    assert inputs().repeats
    assert not inputs(model="vanilla", personalized_model=guided).repeats


@pytest.mark.parametrize("kind", ["apply_model", "calc_cond_batch"])
def test_a_layout_under_a_patch_of_this_pack_is_drawn_anew(kind):
    patched = models()["vanilla"].clone()
    patched.add_wrapper_with_key(kind, KEY, lambda executor, *args: executor(*args))
    found = inputs(personalized_model=patched)
    assert found.lasts and not found.repeats


@pytest.mark.parametrize("wording", ["vanilla", "personalized"])
def test_other_words_of_one_text_have_another_layout(wording):
    first = inputs()
    said = first.prompt.worded(wording)
    other = inputs(prompt=replace(first.prompt, **{wording: replace(said, word="photo")}))
    assert first.key == inputs(prompt=first.prompt).key != other.key
