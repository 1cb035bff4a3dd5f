"""What a prompt's author is told to change."""

import pytest
from likeness.nodes import LikenessSubjectPrompt
from likeness.patching.host.words import Occurrence
from likeness.patching.subject.prompt import word_prompt


@pytest.mark.parametrize(
    ("prompt", "token", "negative", "said"),
    [
        ("a photo\nof a dog, " + "very " * 90, "", "", "...'; change text"),
        ("a photo\nof {a dog", "", "", "got 1 opening and 0 closing braces in 'a photo of {a dog'"),
        ("{a dog}s run", "", "", "got part of a word in '{a dog}s run'; change text"),
        ("hot{dog}", "", "", "got part of a word"),
        ("{embedding:mine}", "", "", "write the embedding into token"),
        ("{a dog}", "sks dog:1.2", "", "change token"),
        ("{a dog}", "<lora:mine:1>", "", "change token"),
        ("{a dog}", "the", "", "change token"),
        ("{a <dog>}", "", "", "expected plain words"),
        ("{a dog}", "", "embedding:nowhere", "got 'nowhere'; change token, text or negative"),
        ("{a dog} \ud83d", "", "", "got half of one (U+D83D)"),
        ("{a dog}", "\udc36", "", "got half of one (U+DC36)"),
        ("{a dog}", "", "\ud800 rain", "change text, token or negative"),
    ],
)
def test_the_message_is_one_short_sentence(monkeypatch, prompt, token, negative, said):
    monkeypatch.setattr("folder_paths.get_filename_list", lambda kind: ["mine.pt"])
    message = LikenessSubjectPrompt.validate_inputs(prompt, token, negative)
    assert isinstance(message, str) and said in message
    assert "\n" not in message and len(message) < 300


def test_the_subject_of_the_neutral_prompt_is_not_its_photo():
    assert isinstance(word_prompt("{a photo} on a wall", "").neutral.word, Occurrence)
    assert word_prompt("{a photo} on a wall", "").neutral.word.number == 1
