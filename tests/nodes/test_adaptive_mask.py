"""The node Adaptive Mask reads the text that its sampler gets."""

import pytest
import torch
from likeness.nodes import AdaptiveMask
from likeness.patching.host.prompt import WORDINGS, SubjectPrompt, SubjectText

TEXTS = {name: SubjectText(f"a photo of a {name} dog", f"{name} dog") for name in WORDINGS}
PROMPT = SubjectPrompt(*(TEXTS[name] for name in WORDINGS), [], [], [], [])


class EndOfTest(Exception):
    """Ends the node once its text is known."""


class Clip:
    """A text encoder that tells which text it is asked for."""

    def tokenize(self, text, return_word_ids=False):
        raise EndOfTest(text)


@pytest.mark.parametrize("wording", WORDINGS)
def test_the_mask_reads_the_chosen_wording(wording):
    with pytest.raises(EndOfTest, match=TEXTS[wording].text):
        AdaptiveMask.execute(
            "per_step", "", "", "all", None, torch.eye(8)[None], Clip(), None, "latent", PROMPT, wording
        )
