"""A word that stands twice in a prompt is the subject only where it stands in braces."""

import comfy.sd1_clip
import comfy.sdxl_clip
import pytest
from likeness.patching.host.prompt import PERSONALIZED, VANILLA, text_and_word
from likeness.patching.host.words import find_word
from likeness.patching.subject.prompt import subject_prompt


class Clip:
    """A text encoder whose conditioning is the text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids) if return_word_ids else text

    def encode_from_tokens_scheduled(self, text):
        return [text]


@pytest.fixture(scope="module", params=[comfy.sd1_clip.SD1Tokenizer, comfy.sdxl_clip.SDXLTokenizer])
def clip(request):
    return Clip(request.param())


def columns(clip, prompt, wording=VANILLA, token=""):
    """The columns that a node finds with a connected prompt."""
    said = text_and_word(subject_prompt(clip, prompt, token, ""), wording, "", "")
    return find_word(clip, **said, node="Node").tokens


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{a dog} and a dog", (2,)),
        ("a dog and {a dog}", (5,)),
        ("a dog, a Dog and ({a dog}:1.2) in snow", (8,)),
        ("a (dog:1.3) and {a dog}", (5,)),
        ("a hotdog and {a dog}", (5,)),
        ("{a red dog} and a red dog", (2, 3)),
        ("stone " * 74 + "dog {dog}", (78,)),
    ],
)
def test_the_words_in_braces_count_alone(clip, prompt, expected):
    assert columns(clip, prompt) == expected


def test_a_learned_word_is_found_beside_others_of_its_class(clip):
    assert columns(clip, "a dog and {a dog}", PERSONALIZED, "my dog") == (5,)
    assert columns(clip, "a dog and {a dog}", VANILLA, "my dog") == (5,)


def test_a_word_of_the_widget_counts_wherever_it_stands(clip):
    assert find_word(clip, "a dog and a dog", "dog", "Node").tokens == (2, 5)
