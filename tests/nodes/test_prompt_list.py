"""The node Prompt List gives every line as a prompt and as a text."""

import pytest
from likeness.nodes import LikenessPromptList


class Clip:
    """A text encoder whose conditioning is the text."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        return [text]


def test_prompts_and_texts_agree():
    prompts, texts = LikenessPromptList.execute(Clip(), "on the beach\n\n in the snow ", " a photo of {a dog}").args
    assert texts == ["a photo of {a dog} on the beach", "a photo of {a dog} in the snow"]
    assert prompts == [[text] for text in texts]


@pytest.mark.parametrize("given", [{"text": "a dog \ud83d", "prefix": ""}, {"text": "a dog", "prefix": "\ud83d"}])
def test_half_of_a_character_is_one_sentence(given):
    said = LikenessPromptList.validate_inputs(**given)
    assert isinstance(said, str) and "got half of one (U+D83D)" in said
    with pytest.raises(ValueError, match="half of one"):
        LikenessPromptList.execute(Clip(), **given)
