"""The node Prompt List gives every line as a prompt and as a text."""

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
