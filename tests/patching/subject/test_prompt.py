"""A prompt with its subject in braces becomes the texts of every model."""

import comfy.sd1_clip
import comfy.sdxl_clip
import folder_paths
import pytest
from likeness.nodes import LikenessSubjectPrompt
from likeness.patching.host.prompt import SubjectText
from likeness.patching.subject.prompt import subject_prompt, word_prompt


class Clip:
    """A text encoder whose conditioning is its name and the text."""

    def __init__(self, name, tokenizer):
        self.name, self.tokenizer = name, tokenizer

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids) if return_word_ids else text

    def encode_from_tokens_scheduled(self, text):
        return [self.name, text]


@pytest.mark.parametrize(
    ("prompt", "token", "personalized", "vanilla", "neutral"),
    [
        (
            "a photo of {a dog} on the beach",
            "sks dog",
            ("a photo of a sks dog on the beach", "sks dog"),
            ("a photo of a dog on the beach", "dog"),
            ("a photo of a sks dog", "sks dog"),
        ),
        (
            "{The  Old Man} at sea",
            "",
            ("The Old Man at sea", "Old Man"),
            ("The Old Man at sea", "Old Man"),
            ("a photo of The Old Man", "Old Man"),
        ),
        (
            "oil painting, ({cat}:1.2)",
            "embedding:mine",
            ("oil painting, (embedding:mine:1.2)", "embedding:mine"),
            ("oil painting, (cat:1.2)", "cat"),
            ("a photo of embedding:mine", "embedding:mine"),
        ),
        (
            "{a dog}",
            "my sks dog",
            ("my sks dog", "sks dog"),
            ("a dog", "dog"),
            ("a photo of my sks dog", "sks dog"),
        ),
    ],
)
def test_wordings(prompt, token, personalized, vanilla, neutral):
    made = word_prompt(prompt, token)
    assert made.personalized == SubjectText(*personalized)
    assert made.vanilla == SubjectText(*vanilla)
    assert made.neutral == SubjectText(*neutral)


@pytest.mark.parametrize(
    ("prompt", "token", "said"),
    [
        ("a photo of a dog", "", "expected one subject in braces"),
        ("{a dog} and {a cat}", "", "got 2"),
        ("{a {dog}}", "", "expected one subject in braces"),
        ("a dog}", "", "expected one subject in braces"),
        ("{ }", "", "expected plain words"),
        ("{a}", "", "expected plain words"),
        ("{(a dog:1.2)}", "", "write weights around the braces"),
        ("{day|night}", "", "expected plain words"),
        ("{a dog}", "{sks}", "change token"),
        ("{a dog}", "embedding:nowhere", "models/embeddings"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_when_the_graph_is_queued(prompt, token, said):
    message = LikenessSubjectPrompt.validate_inputs(prompt, token, "")
    assert isinstance(message, str) and said in message and "\n" not in message


def test_linked_texts_are_checked_later():
    assert LikenessSubjectPrompt.validate_inputs(None, None, None) is True
    assert LikenessSubjectPrompt.validate_inputs("{a dog}", None, "") is True


def test_embeddings_that_exist_are_accepted(monkeypatch):
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda kind: ["mine.safetensors", "sub/other.pt"])
    for name in ("mine", "mine.safetensors", "sub/other"):
        assert LikenessSubjectPrompt.validate_inputs("{a dog}, really", f"embedding:{name}", "") is True


@pytest.mark.parametrize("tokenizer", [comfy.sd1_clip.SD1Tokenizer, comfy.sdxl_clip.SDXLTokenizer])
def test_each_text_is_read_by_its_model_s_encoder(tokenizer):
    tuned, vanilla = Clip("tuned", tokenizer()), Clip("vanilla", tokenizer())
    made = subject_prompt(tuned, "a photo of {a dog} in water", "sks dog", "blurry", vanilla)
    assert made.personalized_conditioning == ["tuned", "a photo of a sks dog in water"]
    assert made.vanilla_conditioning == ["vanilla", "a photo of a dog in water"]
    assert made.neutral_conditioning == ["tuned", "a photo of a sks dog"]
    assert made.negative_conditioning == ["tuned", "blurry"]
    assert subject_prompt(tuned, "{a dog}", "", "").vanilla_conditioning == ["tuned", "a dog"]


def test_a_subject_behind_77_tokens_is_found():
    clip = Clip("any", comfy.sd1_clip.SD1Tokenizer())
    made = subject_prompt(clip, "very " * 90 + "fine photo of {a dog}", "", "")
    assert made.vanilla.word == "dog" and made.vanilla.text.endswith("of a dog")


def test_a_checkpoint_without_text_encoder_is_one_sentence():
    with pytest.raises(ValueError, match="connect a CLIP loader"):
        subject_prompt(None, "{a dog}", "", "")
