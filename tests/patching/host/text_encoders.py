"""The host's text encoders with networks that answer with the number of each token, so that columns can be followed.

Their tokenizers are the host's own, with the vocabularies that come with ComfyUI. Gemma's vocabulary is made here, and
Mistral's tokenizer is a stub.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable

import comfy.sd1_clip
import comfy.text_encoders.anima
import comfy.text_encoders.flux
import comfy.text_encoders.lumina2
import comfy.text_encoders.pixart_t5
import comfy.text_encoders.qwen_image
import comfy.text_encoders.sd3_clip
import comfy.text_encoders.z_image
import torch
from likeness.tests.patching.tiny_dits import conditioning, lacks, tiny_dit

T5_WIDTH = 4096


class Numbers(torch.nn.Module):
    """A text encoder whose features are the numbers of its tokens, counted from 1, with `layers` layers.

    masked: it also answers with an attention mask.
    """

    def __init__(self, width: int = 1, layers: int = 0, masked: bool = False):
        super().__init__()
        self.width, self.layers, self.masked = width, layers, masked

    def encode_token_weights(self, chunks):
        count = sum(map(len, chunks))
        numbers = torch.arange(1.0, count + 1).view(1, -1, 1).repeat(1, 1, self.width)
        if self.layers:
            numbers = numbers[:, None].repeat(1, self.layers, 1, 1)
        masks = [{"attention_mask": torch.ones(1, count)}] if self.masked else []
        return numbers, torch.zeros(1, self.width), *masks


def _bare(kind: type, **attributes) -> torch.nn.Module:
    """An object of the host's class without its networks."""
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def _single(kind: type, name: str, layers: int = 0) -> torch.nn.Module:
    return _bare(kind, clip=name, clip_name=name, **{name: Numbers(layers=layers, masked=True)})


def _sd3(with_clip: bool = True, with_t5: bool = True) -> torch.nn.Module:
    clip = {"clip_l": Numbers(768), "clip_g": Numbers(1280)} if with_clip else {"clip_l": None, "clip_g": None}
    t5 = Numbers(T5_WIDTH) if with_t5 else None
    return _bare(comfy.text_encoders.sd3_clip.SD3ClipModel, t5xxl=t5, t5_attention_mask=False, **clip)


def _krea2() -> torch.nn.Module:
    from comfy.text_encoders.krea2 import Krea2TEModel

    return _single(Krea2TEModel, "qwen3vl_4b", layers=12)


def _krea2_tokenizer():
    from comfy.text_encoders.krea2 import Krea2Tokenizer

    return Krea2Tokenizer()


class _Pieces:
    """A stub of Mistral's tokenizer: pieces with the space before, a letter each but for three words."""

    special = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
    names = (*special, "\u0120a", "\u0120red", "\u0120cat", "\u0120", "\u010a", *map(chr, range(33, 127)))

    @classmethod
    def from_pretrained(cls, _path):
        return cls()

    def __call__(self, text: str) -> dict:
        pieces = re.findall(r"\[/?[A-Z_]+\]| (?:a|red|cat)\b|[\s\S]", text)
        names = [piece.replace(" ", "\u0120").replace("\n", "\u010a") for piece in pieces]
        return {"input_ids": [1, *(self.names.index(name) for name in names)]}

    def get_vocab(self) -> dict:
        return {name: i for i, name in enumerate(self.names)}


class _Mistral(comfy.sd1_clip.SDTokenizer):
    """Flux.2's tokenizer as the host makes it, around the stub."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            "",
            tokenizer_class=_Pieces,
            embedding_key="mistral3_24b",
            pad_with_end=False,
            has_end_token=False,
            pad_to_max_length=False,
            max_length=99999999,
            min_length=1,
            pad_left=True,
            disable_weights=True,
        )


@functools.cache
def _sentencepiece() -> bytes:
    import sentencepiece

    text = ["a red cat sits on a table", "a dog and a cat", "a CAT, (red:1.2) Tiger"] * 20
    text.append("the quick brown fox jumps over the lazy dog: AB, image objects user system assistant")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=90,
        model_type="bpe",
        byte_fallback=False,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
    )
    return model.getvalue()


CLIPS: dict[str, tuple[Callable, Callable]] = {
    "flux": (
        comfy.text_encoders.flux.FluxTokenizer,
        lambda: _bare(comfy.text_encoders.flux.FluxClipModel, clip_l=Numbers(), t5xxl=Numbers()),
    ),
    "flux2": (
        lambda: comfy.text_encoders.flux.Flux2Tokenizer(tokenizer_data={"mistral3_24b_tokenizer_class": _Mistral}),
        lambda: _single(comfy.text_encoders.flux.Flux2TEModel, "mistral3_24b", layers=3),
    ),
    "klein": (
        comfy.text_encoders.flux.KleinTokenizer,
        lambda: _single(comfy.text_encoders.flux.Flux2TEModel, "qwen3_4b", layers=3),
    ),
    "chroma": (
        comfy.text_encoders.pixart_t5.PixArtTokenizer,
        lambda: _single(comfy.sd1_clip.SD1ClipModel, "t5xxl"),
    ),
    "qwen": (
        comfy.text_encoders.qwen_image.QwenImageTokenizer,
        lambda: _single(comfy.text_encoders.qwen_image.QwenImageTEModel, "qwen25_7b"),
    ),
    "zimage": (
        comfy.text_encoders.z_image.ZImageTokenizer,
        lambda: _single(comfy.text_encoders.z_image.ZImageTEModel, "qwen3_4b"),
    ),
    "lumina2": (
        lambda: comfy.text_encoders.lumina2.LuminaTokenizer(tokenizer_data={"spiece_model": _sentencepiece()}),
        lambda: _single(comfy.text_encoders.lumina2.LuminaModel, "gemma2_2b"),
    ),
    "krea2": (_krea2_tokenizer, _krea2),
    "sd3": (comfy.text_encoders.sd3_clip.SD3Tokenizer, _sd3),
    "sd3_t5": (comfy.text_encoders.sd3_clip.SD3Tokenizer, lambda: _sd3(with_clip=False)),
    "sd3_clip": (comfy.text_encoders.sd3_clip.SD3Tokenizer, lambda: _sd3(with_t5=False)),
    "anima": (
        comfy.text_encoders.anima.AnimaTokenizer,
        lambda: _single(comfy.text_encoders.anima.AnimaTEModel, "qwen3_06b"),
    ),
}
"""{text encoder: (the host's tokenizer, the host's network)}."""


class Clip:
    """A CLIP of one of CLIPS."""

    def __init__(self, name: str):
        tokenizer, network = CLIPS[name]
        self.name, self.tokenizer, self.cond_stage_model = name, tokenizer(), network()

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)

    def encode_from_tokens_scheduled(self, tokens):
        """CONDITIONING of random features, with as many columns as the host's text encoder gives."""
        encoded, _, *extra = self.cond_stage_model.encode_token_weights(self.tokens_of(tokens))
        ((text, rest),) = conditioning(tokens=encoded.shape[1], seed=20)
        ids = {name: value for name, value in (extra[0] if extra else {}).items() if name.startswith("t5xxl")}
        return [[text, {**rest, **ids}]]

    def tokens_of(self, tokens: dict) -> dict:
        """The tokens without the numbers of words."""
        return {name: [[entry[:2] for entry in chunk] for chunk in chunks] for name, chunks in tokens.items()}

    def columns(self, text: str) -> list[int]:
        """The number of the token in each column of the text that the network sees, from 1; 0 for other columns."""
        encoded, *rest = self.cond_stage_model.encode_token_weights(self.tokenize(text))
        if self.name in ("flux2", "klein"):
            encoded = (
                tiny_dit("flux2")
                .model.extra_conds(cross_attn=encoded, pooled_output=None, device="cpu")["c_crossattn"]
                .cond
            )
        elif self.name == "anima":  # the adapter answers with as many columns as there are tokens of T5
            count = len(rest[1]["t5xxl_ids"])
            encoded = torch.nn.functional.pad(torch.arange(1.0, count + 1), (0, 512 - count)).view(1, -1, 1)
        return encoded[0, :, 0].int().tolist()

    def names(self, text: str) -> list[str]:
        """The name of the token in each column."""
        tokens, names = self.tokenize(text), []
        keys = {"flux": ["t5xxl"], "anima": ["t5xxl"], "sd3": ["l", "t5xxl"], "sd3_t5": ["t5xxl"], "sd3_clip": ["l"]}
        for key in keys.get(self.name, list(tokens)):
            inner = getattr(self.tokenizer, key, None) or getattr(self.tokenizer, f"clip_{key}")
            names.append([inner.inv_vocab.get(entry[0], "") for chunk in tokens[key] for entry in chunk])
        columns, numbers = self.columns(text), []
        if self.name == "sd3":  # CLIP's columns come first
            columns, numbers = columns[77:], [(names[0], n) for n in columns[:77]]
        return [own[n - 1] if n else "" for own, n in [*numbers, *((names[-1], n) for n in columns)]]


@functools.cache
def clip_of(name: str) -> Clip:
    """A CLIP, made once."""
    return Clip(name)


def missing(name: str) -> bool:
    """True where the host is too old for the encoder."""
    return name == "krea2" and lacks(name)
