"""A prompt with one subject in it, worded for the personalized and for the vanilla model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SubjectText:
    """A text and the words in it that stand for the subject."""

    text: str
    word: str


@dataclass(frozen=True)
class SubjectPrompt:
    """Texts and CONDITIONINGs of one prompt.

    personalized: with the learned token. vanilla: with the class words. neutral: a photo of the subject and nothing
    else, the caption of its reference pictures. negative: the negative prompt of all of them.
    """

    personalized: SubjectText
    vanilla: SubjectText
    neutral: SubjectText
    personalized_conditioning: list
    vanilla_conditioning: list
    neutral_conditioning: list
    negative_conditioning: list

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {said.text} [{said.word}]"
            for name, said in (
                ("personalized", self.personalized),
                ("vanilla", self.vanilla),
                ("neutral", self.neutral),
            )
        )
