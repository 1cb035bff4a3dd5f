"""Words are found in the columns that the host's own text encoders give the networks of diffusion transformers."""

import pytest
from likeness.patching.host.words import Occurrence, find_word
from likeness.tests.patching.host.text_encoders import CLIPS, Clip, clip_of, missing


@pytest.fixture(scope="module", params=CLIPS)
def clip(request):
    if missing(request.param):
        pytest.skip(f"this ComfyUI has no {request.param}")
    return clip_of(request.param)


def found(clip: Clip, text: str, word: str) -> list[str]:
    """The text of the columns of each part, without spaces."""
    names, where = clip.names(text), find_word(clip, text, word, "Node")
    return [names[column].strip("\u2581\u0120").removesuffix("</w>").lower() for column in where.tokens]


def repeats(clip: Clip) -> int:
    """The number of encoders whose columns the network sees."""
    return 2 if clip.name == "sd3" else 1


def test_a_word(clip):
    text = "a red cat on a table"
    assert find_word(clip, text, "cat", "Node").prompt_length == len(clip.columns(text))
    assert "".join(found(clip, text, "cat")) == "cat" * repeats(clip)
    assert "".join(found(clip, text, "red cat")) == "redcat" * repeats(clip)


def test_case_punctuation_and_weights_do_not_matter(clip):
    for text in ("A red Cat, on a table", "a (cat:1.2) on a table", "a ((red) cat)"):
        assert "".join(found(clip, text, "cat")) == "cat" * repeats(clip)
    assert "".join(found(clip, "a (red:1.2) cat", "red cat")) == "redcat" * repeats(clip)


def test_occurrences(clip):
    text = "a cat and a dog and a cat"
    every = find_word(clip, text, "cat", "Node").tokens
    single = [find_word(clip, text, Occurrence("cat", n), "Node").tokens for n in (0, 1)]
    assert sorted(every) == sorted(single[0] + single[1]) and not set(single[0]) & set(single[1])
    assert min(single[0]) < min(single[1])


@pytest.mark.parametrize("word", ["image", "objects", "user", "assistant", "system"])
def test_the_words_of_a_template_are_no_words_of_the_prompt(clip, word):
    with pytest.raises(ValueError, match="expected a word of the prompt"):
        find_word(clip, "a red cat", word, "Node")
    text = f"a red {word}"
    first = "".join(found(clip, text, word))
    assert first == word * repeats(clip)


def test_part_of_a_word_is_no_word(clip):
    with pytest.raises(ValueError, match="got 'cat'"):
        find_word(clip, "a tigercat", "cat", "Node")
    assert "".join(found(clip, "a tigercat and a cat", "cat")) == "cat" * repeats(clip)


@pytest.mark.parametrize("name", ["flux", "zimage", "qwen"])
def test_letters_of_other_scripts(name):
    clip = clip_of(name)
    where = find_word(clip, "ein süßer Hund, groß", "süßer", "Node").tokens
    assert where and where[-1] < find_word(clip, "ein süßer Hund, groß", "Hund", "Node").tokens[0]


def test_a_word_that_t5_does_not_know_is_refused():
    with pytest.raises(ValueError, match="Node: expected a word that the text encoder knows, got '猫'; change word"):
        find_word(clip_of("flux"), "a 猫 on a table", "猫", "Node")
    assert find_word(clip_of("qwen"), "a 猫 on a table", "猫", "Node").tokens


def test_long_prompts(clip):
    text = "red " * 120 + "cat"
    where = find_word(clip, text, "cat", "Node")
    assert where.prompt_length == len(clip.columns(text))
    if clip.name != "sd3":  # whose T5 comes after two chunks of CLIP here
        assert "".join(found(clip, text, "cat")) == "cat"
