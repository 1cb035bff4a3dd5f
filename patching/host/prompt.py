"""A prompt with one subject in it, worded for the personalized and for the vanilla model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy.sd import CLIP

PERSONALIZED, VANILLA, NEUTRAL = WORDINGS = ("personalized", "vanilla", "neutral")


@dataclass(frozen=True)
class SubjectText:
    """A text and the words in it that stand for the subject."""

    text: str
    word: str


@dataclass(frozen=True)
class SubjectPrompt:
    """Texts and CONDITIONINGs of one prompt.

    personalized: with the learned token. vanilla: with the class words. neutral: a photo of the subject and nothing
    else, the caption of its reference pictures. negative: the negative prompt of all of them. clip, vanilla_clip: the
    text encoders of the two models, which locate words in the texts.
    """

    personalized: SubjectText
    vanilla: SubjectText
    neutral: SubjectText
    personalized_conditioning: list
    vanilla_conditioning: list
    neutral_conditioning: list
    negative_conditioning: list
    clip: CLIP | None = None
    vanilla_clip: CLIP | None = None

    def worded(self, wording: str) -> SubjectText:
        """The text of one of WORDINGS."""
        return {PERSONALIZED: self.personalized, VANILLA: self.vanilla, NEUTRAL: self.neutral}[wording]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {self.worded(name).text} [{self.worded(name).word}]" for name in WORDINGS)


def text_and_word(prompt: SubjectPrompt | None, wording: str, text: str, word: str) -> dict[str, str]:
    """The values of the widgets `text` and `word`, whose place a connected prompt takes."""
    said = SubjectText(text, word) if prompt is None else prompt.worded(wording)
    return {"text": said.text, "word": said.word}
