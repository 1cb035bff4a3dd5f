"""Prompts of a set: one for a whole batch, and several stacked into rows."""

import torch
from likeness.patching.jedi.prompts import stacked
from likeness.tests.patching.jedi.joint_runs import prompts, reference, run
from likeness.tests.patching.tiny_models import conditioning, tiny_model


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
