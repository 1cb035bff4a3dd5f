"""Words are found in the tokens of ComfyUI's real tokenizers."""

import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.text_encoders.sd2_clip
import pytest
import torch
from likeness.patching.host.words import find_word

TOKENIZERS = {
    "sd1": comfy.sd1_clip.SD1Tokenizer,
    "sd2": comfy.text_encoders.sd2_clip.SD2Tokenizer,
    "sdxl": comfy.sdxl_clip.SDXLTokenizer,
}


class Clip:
    """The tokenizing half of a CLIP."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)


@pytest.fixture(scope="module", params=TOKENIZERS)
def clip(request):
    return Clip(TOKENIZERS[request.param]())


def columns(clip, text, word):
    return find_word(clip, text, word, "Node").tokens


def test_a_word(clip):
    assert columns(clip, "a photo of a cat", "cat") == (5,)  # the start token is column 0
    assert find_word(clip, "a photo of a cat", "cat", "Node").prompt_length == 77


def test_case_and_spaces_do_not_matter(clip):
    assert columns(clip, "A  photo of a CAT", " Cat ") == (5,)


def test_a_word_of_several_tokens(clip):
    tokens = columns(clip, "a xylophonist sings", "xylophonist")
    assert len(tokens) > 1 and tokens == tuple(range(2, 2 + len(tokens)))


def test_every_occurrence_counts(clip):
    assert columns(clip, "cat, dog and cat", "cat") == (1, 5)


def test_several_words_that_stand_together(clip):
    assert columns(clip, "a red cat and a cat that is red", "red cat") == (2, 3)
    with pytest.raises(ValueError, match="got 'cat red'"):
        columns(clip, "a red cat", "cat red")


@pytest.mark.parametrize(
    "text", ["a (cat:1.3) sits", "a ((cat)) sits", "(a (cat:0.5) sits:1.2)", r"a cat \(gray\) sits"]
)
def test_weights_are_no_words(clip, text):
    assert columns(clip, text, "cat") == columns(clip, "a cat sits", "cat") == (2,)


def test_a_phrase_may_have_a_weight_inside(clip):
    assert columns(clip, "a red (cat:1.2) sits", "red cat") == (2, 3)
    assert columns(clip, "a red cat", "(red:1.5) cat") == (2, 3)


def test_part_of_a_word_is_no_word(clip):
    for text in ("a catalog", "many cats", "a tigercat"):
        with pytest.raises(ValueError, match="got 'cat'"):
            columns(clip, text, "cat")
    assert columns(clip, "a tigercat and a cat", "cat") == (6,)


def test_long_prompts_are_counted_through_their_chunks(clip):
    text = "stone " * 100 + "cat"
    found = find_word(clip, text, "cat", "Node")
    assert found.prompt_length == 154
    assert found.tokens == (77 + 1 + 25,)  # 75 words fill the first chunk between its start and its end
    assert len(columns(clip, text, "stone")) == 100 and not {0, 76, 77} & set(columns(clip, text, "stone"))


def test_a_word_that_is_cut_by_a_chunk_is_whole(clip):
    text = "stone " * 74 + "xylophonist"
    tokens = columns(clip, text, "xylophonist")
    assert tokens[0] == 75 and tokens[1] == 78


@pytest.mark.parametrize("word", ["dgo", "", "  ", "photo cat"])
def test_an_unknown_word_is_refused_with_the_words_there_are(clip, word):
    with pytest.raises(ValueError) as error:
        columns(clip, "a (photo:1.2) of a cat, please", word)
    got = f"'{word}'" if word.strip() else "none"
    assert (
        str(error.value) == f"Node: expected a word of the prompt (a, photo, of, cat, please), got {got}; change word."
    )


def test_an_empty_prompt_has_no_words(clip):
    with pytest.raises(
        ValueError, match=r"expected a prompt, got an empty one; write the prompt with the word into text"
    ):
        columns(clip, "", "cat")


def test_embeddings(tmp_path):
    torch.save({"string_to_param": {"*": torch.randn(2, 768)}}, tmp_path / "mine.pt")
    clip = Clip(comfy.sd1_clip.SD1Tokenizer(embedding_directory=str(tmp_path)))
    assert columns(clip, "a photo of embedding:mine in snow", "embedding:mine") == (4, 5)
    assert columns(clip, "a photo of embedding:mine in snow", "snow") == (7,)


class Vocabulary:
    """A tokenizer with one token for all unknown words, like Tinyland's."""

    words = ("<start>", "<end>", "<unknown>", "a", "red", "cat")

    @classmethod
    def from_pretrained(cls, _path):
        return cls()

    def __call__(self, text):
        known = [self.words.index(w) if w in self.words else 2 for w in text.split()]
        return {"input_ids": [0, *known, 1]}

    def get_vocab(self):
        return {w: i for i, w in enumerate(self.words)}


def test_unknown_words_do_not_stand_for_each_other():
    inner = comfy.sd1_clip.SDTokenizer(tokenizer_class=Vocabulary, max_length=12)

    class Outer:
        clip, clip_l = "clip_l", inner

        def tokenize_with_weights(self, text, return_word_ids=False):
            return {"l": inner.tokenize_with_weights(text, return_word_ids)}

    clip = Clip(Outer())
    assert columns(clip, "a red cat", "cat") == (3,)
    assert columns(clip, "a red zebra", "zebra") == (3,)
    with pytest.raises(ValueError, match="got 'horse'"):
        columns(clip, "a red zebra", "horse")


@pytest.mark.parametrize(("text", "word"), [("a cat \ud83d", "cat"), ("a cat", "cat\ude00")])
def test_half_of_a_character_is_one_sentence(clip, text, word):
    with pytest.raises(ValueError, match=r"^Node: expected whole characters in (text|word), got half of one \(U\+D"):
        columns(clip, text, word)
