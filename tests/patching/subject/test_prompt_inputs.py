"""A connected prompt takes the place of the widgets text and word."""

import pytest
import torch
from likeness.nodes import AdaptiveMask, AppearancePalette, LayoutTemplate, LikenessAttentionMaps, UREMDGuidance
from likeness.patching.host.prompt import NEUTRAL, WORDINGS, SubjectPrompt, SubjectText, text_and_word

TEXTS = {name: SubjectText(f"a photo of a {name} dog", f"{name} dog") for name in WORDINGS}
PROMPT = SubjectPrompt(*(TEXTS[name] for name in WORDINGS), [], [], [], [])
NODES = {
    AdaptiveMask: {"attention": "per_step", "input_types": {"clip": "CLIP", "heatmap": "MASK"}},
    AppearancePalette: {"input_types": {"latent": "LATENT"}},
    LayoutTemplate: {"boxes": ""},
    LikenessAttentionMaps: {},
    UREMDGuidance: {"input_types": {"palette": "LIKENESS_PALETTE"}},
}


class Clip:
    """A text encoder that keeps the texts it is asked for."""

    def __init__(self):
        self.texts = []

    def tokenize(self, text, return_word_ids=False):
        self.texts.append(text)
        raise EndOfTest


class EndOfTest(Exception):
    """Ends a node once its text is known."""


def test_a_prompt_replaces_the_widgets():
    assert text_and_word(None, NEUTRAL, "a cat", "cat") == {"text": "a cat", "word": "cat"}
    for name in WORDINGS:
        assert text_and_word(PROMPT, name, "a cat", "cat") == {"text": TEXTS[name].text, "word": TEXTS[name].word}


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_empty_widgets_are_accepted_beside_a_prompt_alone(node):
    facts = NODES[node]
    types = facts.get("input_types", {})
    assert isinstance(node.validate_inputs(**{**facts, "text": "", "word": ""}), str)
    with_prompt = {**facts, "text": "", "word": "", "input_types": {**types, "subject_prompt": "LIKENESS_PROMPT"}}
    assert node.validate_inputs(**with_prompt) is True


@pytest.mark.parametrize("wording", WORDINGS)
def test_maps_read_the_chosen_wording(model, wording):
    clip = Clip()
    with pytest.raises(EndOfTest):
        LikenessAttentionMaps.execute(
            model=model,
            clip=clip,
            latent={"samples": torch.randn(1, 4, 16, 16)},
            start_percent=0.2,
            end_percent=0.8,
            noise_levels=1,
            text="",
            word="",
            blocks="all",
            group_by="together",
            seed=0,
            subject_prompt=PROMPT,
            wording=wording,
        )
    assert clip.texts == [TEXTS[wording].text]
