"""The demo transformer in a real ComfyUI: each method changes its pictures, and a neutral value gives them back."""

import numpy as np
from likeness.tests.server.prompts import failure, only, pictures

ALONE, APPENDED, TWO_MODELS = "13", "16", "19"
"""Nodes of the workflow that save pictures."""


def drawn(client, prompt) -> dict[str, list[np.ndarray]]:
    result = client.run(prompt)
    return {node: pictures(client, result, node) for node in (ALONE, APPENDED, TWO_MODELS)}


def same(first, second) -> bool:
    return len(first) == len(second) == 2 and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_each_method_changes_the_pictures(client, workflow):
    prompt = workflow("demo_transformer")
    made = drawn(client, prompt)
    assert not same(made[APPENDED], made[ALONE]) and not same(made[TWO_MODELS], made[ALONE])
    only(prompt, "MultiSourceAttnSwap")["strength"] = 0.0
    only(prompt, "StepBlendedSampler")["switch_step"] = 3  # all steps are the vanilla model's
    neutral = drawn(client, prompt)
    assert all(same(neutral[node], made[ALONE]) for node in neutral)


def test_another_subject_has_pictures_and_words_alone(client, workflow):
    prompt = workflow("demo_transformer")
    subject = only(prompt, "LikenessDemoSubject")
    subject["subject"] = "amanita"
    failure(client, prompt, "Demo Subject", "nemo, taxi", "amanita")
    subject["strength"] = 0.0
    made = drawn(client, prompt)
    assert not same(made[APPENDED], made[ALONE])


def test_missing_weights_are_one_sentence(client, workflow, pack):
    path = pack / "demo" / "weights" / "transformer.safetensors"
    content = path.read_bytes()
    path.unlink()
    try:
        failure(client, workflow("demo_transformer"), "Demo Transformer", path.name, "reinstall the pack")
    finally:
        path.write_bytes(content)
