"""Inputs beside the methods on diffusion transformers, against the second table of docs/transformers.md."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from likeness.patching.features.lending import BATCHED
from likeness.patching.layout_and_retouch.settings import APPEND
from likeness.tests.patching import dit_verbs, tiny_dits
from likeness.tests.patching.dit_verbs import (
    OTHER,
    PICTURES,
    PROMPTED,
    READINGS,
    TEXT,
    borrowed,
    brief,
    close,
    far,
    network,
    together,
    with_guidance,
)
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import reference, retouched
from likeness.tests.patching.pick_and_draw.guidance_runs import PROMPT, encoded

pytestmark = pytest.mark.usefixtures("as_the_host_runs")

OVERRIDE = "optimized_attention_override"
WITH_HOST_REFERENCES = ("flux", "flux2", "qwen", "krea2")
PLACED_BY_TEXT = ("zimage",)


PAGE = Path(__file__).parents[2] / "docs" / "transformers.md"
FOUND = {
    "an attention override inside a block that asks the one before it (regional prompts)": "works works works",
    "one that asks nobody": "B C B",
    "reference latents in the prompt, of Kontext, Flux.2, Qwen-Image-Edit and Krea 2": "works works works",
    "the same of Z-Image": "D works D",
    "latents of a video": "E E E",
    "prompts of several lengths": "works works works",
    "weights in fp8, with scales (`fp8_scaled`) or without": "works works works",
    "layers of GGUF and NF4 loaders": "works works works",
    "torch.compile": "works works F",
}
"""The page's cells for references, sets and guidance. The tests here, of gradients and of packed weights find them."""


def test_the_page_says_what_the_tests_find():
    table = PAGE.read_text("utf-8").split("## ")[2]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert rows[0] == ["input", "references", "sets", "guidance"]
    assert {name: " ".join(cells) for name, *cells in rows[2:]} == FOUND


class Regional:
    """A replacement of a block, not of the pack, that sets an override of attention inside of the block.

    asks: True if it asks the override that is already there.
    """

    def __init__(self, asks: bool):
        self.asks = asks

    def on(self, model, block: int = 0):
        clone = model.clone()
        clone.set_model_patch_replace(self, "dit", "double_block", block)
        return clone

    def __call__(self, args, extra):
        options = args["transformer_options"]
        previous = options.get(OVERRIDE) if self.asks else None

        def attend(func, q, *rest, **named):
            named["transformer_options"] = {**named["transformer_options"], OVERRIDE: previous}
            return func(0.5 * q, *rest, **named) if previous is None else previous(func, 0.5 * q, *rest, **named)

        return extra["original_block"]({**args, "transformer_options": {**options, OVERRIDE: attend}})


@pytest.mark.parametrize("dit", ["flux", "chroma", "qwen", "sd3"], indirect=True)
@pytest.mark.parametrize("method", ["references appended", "sets", "guidance"])
def test_an_override_set_inside_a_block_that_asks_the_present_one(dit, method):
    run, without = PICTURES[method]
    if method == "sets":  # without the negative prompt, whose calls are not coupled
        run, without = functools.partial(run, cfg=1.0), functools.partial(run, cfg=1.0, blocks="")
    model, other = network(dit), Regional(asks=True)
    found = run(other.on(model), dit)
    assert far(found, run(model, dit)) and far(found, without(other.on(model), dit))


def batched(model, dit: str) -> torch.Tensor:
    """A retouch whose reference is in the same call as the picture."""
    picture = reference(dit, height=dit_verbs.HEIGHT, width=dit_verbs.WIDTH)
    return brief(retouched(model, [picture], mode=BATCHED, attention=APPEND), dit)


@pytest.mark.parametrize("dit", ["flux", "chroma", "qwen", "sd3"], indirect=True)
def test_an_override_set_inside_a_block_that_asks_nobody(dit, caplog):
    """Methods that read a block stop with a sentence; those that only change it say that they did nothing there."""
    model = Regional(asks=False).on(network(dit))
    reached = r"^[\w ]+: expected the model to reach double0, got a model call without "
    for run in (borrowed(APPEND), with_guidance, READINGS["Layer Probe"]):
        with pytest.raises(ValueError, match=reached):
            run(model, dit)
    told = "no effect in double0, because another node computes the attention of these blocks by itself"
    for run in (batched, together):
        caplog.clear()
        run(model, dit)
        assert told in caplog.text.lower()
        caplog.clear()
        run(network(dit), dit)
        assert "no effect" not in caplog.text.lower()


def with_references(text: list, dit: str, method: str | None = None) -> list:
    """The prompt of a Kontext or Edit model, with a picture that the host itself adds to the sequence.

    method: the host's place for it; Krea 2 has none of its own.
    """
    ((features, rest),) = text
    method = "index" if dit == "krea2" else method
    given = {"reference_latents": [tiny_dits.latent(dit, 1, 4, 6, seed=30)["samples"]]}
    return [[features, {**rest, **given, **({"reference_latents_method": method} if method else {})}]]


@pytest.mark.parametrize("dit", WITH_HOST_REFERENCES, indirect=True)
@pytest.mark.parametrize("method", PROMPTED)
def test_references_of_the_host_beside_ours(dit, method):
    """With the family's own place for them. The neutral value keeps them, bit for bit."""
    run, without = PICTURES[method]
    model = network(dit)
    edited = with_references(encoded(PROMPT) if method == "guidance" else TEXT, dit)
    expected = without(model, dit, positive=edited)
    assert far(expected, without(model, dit)) and torch.equal(run(model, dit, 0.0, positive=edited), expected)
    found = run(model, dit, positive=edited)
    assert torch.isfinite(found).all() and far(found, expected) and far(found, run(model, dit))


@pytest.mark.parametrize("dit", ["flux", "krea2", *PLACED_BY_TEXT], indirect=True)
def test_sets_of_prompts_with_the_hosts_references(dit):
    texts = [with_references(text, dit) for text in (TEXT, OTHER)]
    model = network(dit)
    found = together(model, dit, texts=texts)
    assert torch.isfinite(found).all() and far(found, together(model, dit, 0.0, texts=texts))
    assert far(found, together(model, dit))


@pytest.mark.parametrize("dit", PLACED_BY_TEXT, indirect=True)
@pytest.mark.parametrize("method", PROMPTED)
def test_references_of_the_host_that_move_the_picture_are_refused(dit, method):
    run, without = PICTURES[method]
    edited = with_references(encoded(PROMPT) if method == "guidance" else TEXT, dit)
    assert torch.isfinite(without(network(dit), dit, positive=edited)).all()
    with pytest.raises(ValueError, match=r"^[\w ]+: expected prompts without reference latents for a Lumina2 model, "):
        run(network(dit), dit, positive=edited)


@pytest.mark.parametrize("dit", tiny_dits.WITH_FRAMES, indirect=True)
@pytest.mark.parametrize("method", [*PICTURES, *READINGS])
def test_videos_are_refused(dit, method, monkeypatch):
    """Latents of three frames, before anything runs."""
    run = READINGS[method] if method in READINGS else PICTURES[method][0]
    image, path = tiny_dits.latent, dit_verbs.in_turn(network(dit), dit, 0.0)
    monkeypatch.setattr(dit_verbs, "empty", lambda dit, rows=1: {"samples": torch.zeros(rows, 16, 3, 7, 9)})
    if method in READINGS:
        video = {"samples": image(dit, 1, 7, 9)["samples"].repeat(1, 1, 3, 1, 1)}
        monkeypatch.setattr(tiny_dits, "latent", lambda *args, **kwargs: video)
    if method == "layout and mask":
        monkeypatch.setattr(dit_verbs, "in_turn", lambda *args: path)
    with pytest.raises(ValueError, match=r"^[\w -]+: expected a LATENT of images, got a video of 3 frames; connect"):
        run(network(dit), dit)


@pytest.mark.full
@pytest.mark.parametrize("method", ["references appended", "sets"])
def test_a_compiled_model_gives_the_same_pictures(method):
    run, _ = PICTURES[method]
    compiled = network("flux")
    set_torch_compile_wrapper(compiled, "eager")
    close(run(compiled, "flux"), run(network("flux"), "flux"))


def test_guidance_refuses_a_compiled_model():
    compiled = network("flux")
    set_torch_compile_wrapper(compiled, "eager")
    with pytest.raises(ValueError, match=r"^Subject Guidance: expected a model without torch.compile, got a compiled"):
        with_guidance(compiled, "flux")


def test_prompts_of_several_lengths_in_one_set(dit):
    """Both sides of guidance then run apart, and the filling of the shorter prompt is not seen."""
    texts = [tiny_dits.conditioning(tokens=n, seed=n) for n in (7, 40)]
    found = together(network(dit), dit, 0.0, texts=texts)
    close(found[:1], brief(network(dit), dit, positive=texts[0]))
    assert far(together(network(dit), dit, texts=texts), found)
