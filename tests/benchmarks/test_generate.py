"""Batched sampling gives KSampler's result, seed by seed."""

import comfy.sample
import numpy as np
import pytest
import torch
from likeness.benchmarks import generate
from likeness.patching.tinyland import model as tinyland

SETTINGS = generate.Settings(steps=3)


@pytest.fixture(scope="module")
def objects(random_weights):
    return tinyland.load(random_weights, str(random_weights / "embeddings"))


def draw(objects, texts, seeds, settings=SETTINGS):
    model, clip, vae = objects
    with torch.inference_mode():
        return generate.pictures(
            generate.plain(model, generate.TextEncoder(clip), settings), vae, texts, seeds, settings
        )


def far(first, second) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_a_picture_does_not_depend_on_its_batch(objects, monkeypatch):
    texts, seeds = ["a red ball", "a fish in the sea", "a car", "a red ball"], [5, 6, 7, 8]
    together = draw(objects, texts, seeds)
    assert together.shape == (4, 128, 128, 3) and together.dtype == np.uint8
    monkeypatch.setattr(generate, "BATCH", 1)
    assert far(together, draw(objects, texts, seeds)) <= 1
    assert far(together[0], together[3]) > 5, "the same text with another seed is another picture"
    assert far(together[0], draw(objects, ["a blue ball"], [5])[0]) > 1, (
        "another text with the same seed is another picture"
    )


@pytest.mark.parametrize(("sampler", "scheduler"), [("euler", "normal"), ("dpmpp_2m", "karras"), ("dpm_2", "normal")])
def test_a_row_is_what_ksampler_gives(objects, sampler, scheduler):
    model, clip, _ = objects
    settings = generate.Settings(steps=4, sampler=sampler, scheduler=scheduler)
    encode = generate.TextEncoder(clip)
    with torch.inference_mode():
        rows = generate.latents(
            generate.plain(model, encode, settings)(["a red ball", "a car at night"]), [11, 12], settings
        )
        empty = torch.zeros(1, 4, 16, 16)
        noise = comfy.sample.prepare_noise(empty, 12)
        plain = comfy.sample.sample(
            model,
            noise,
            4,
            settings.cfg,
            sampler,
            scheduler,
            encode(["a car at night"]),
            encode([""]),
            empty,
            disable_pbar=True,
            seed=12,
        )
    torch.testing.assert_close(rows[1:], plain, rtol=1e-3, atol=1e-3)


def test_each_text_is_encoded_once(objects, monkeypatch):
    clip, calls = objects[1], []
    encode = generate.TextEncoder(clip)
    tokenize = clip.tokenize
    monkeypatch.setattr(clip, "tokenize", lambda text: calls.append(text) or tokenize(text))
    ((features, rest),) = encode(["a car", "a fish", "a car"])
    encode(["a fish"])
    assert calls == ["a car", "a fish"]
    assert len(features) == 3 == len(rest["pooled_output"])
    assert torch.equal(features[0], features[2]) and not torch.equal(features[0], features[1])


def test_prompts_of_different_lengths_are_refused(objects):
    encode = generate.TextEncoder(objects[1])
    with pytest.raises(ValueError, match="one number of tokens"):
        encode(["a car", "a red " * 30])
