"""A subject given by photographs, and what each paper's method borrows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..features.references import INVERSION_STEPS, TRAINING_SIZE
from ..host.prompt import SubjectPrompt, SubjectText
from ..host.words import check_word

NODE = "Subject"
MOST = 8
ATTENTION, WHOLE = AREAS = ("attention", "whole picture")
"""Ways to find the subject where no mask is given; a Segment Anything checkpoint is another."""
THRESHOLD = 0.3
_KEPT = 2


@dataclass(frozen=True, eq=False)
class Photos:
    """Photographs of one size, as one input gives them.

    images: [n, height, width, 3]. masks: of each photograph, [height, width] in 0..1, None where none is given.
    """

    images: torch.Tensor
    masks: tuple[torch.Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject.

    word: the words of the prompt that find it in the photographs, empty for those in the prompt's braces. size:
    TRAINING_SIZE or OWN_SIZE. area: ATTENTION, WHOLE or a checkpoint of Segment Anything. threshold, map_blocks: of
    the attention, as in AppearancePalette. inversion_steps: as in LikenessReference. made: what was computed before, by
    everything that changes it.
    """

    photos: tuple[Photos, ...]
    word: str = ""
    size: str = TRAINING_SIZE
    area: str = ATTENTION
    threshold: float = THRESHOLD
    map_blocks: str = "paper"
    inversion_steps: int = INVERSION_STEPS
    made: dict[tuple, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of photographs."""
        return sum(len(part.images) for part in self.photos)

    @property
    def unmasked(self) -> bool:
        """True where a photograph has no mask."""
        return any(mask is None for part in self.photos for mask in part.masks)

    @property
    def searched(self) -> bool:
        """True where attention or Segment Anything has to find the subject in a photograph."""
        return self.area != WHOLE and self.unmasked

    def caption(self, prompt: SubjectPrompt) -> SubjectText:
        """The caption of every photograph, and its words that find the subject.

        Raises ValueError for a word that stands neither in the caption nor in the prompt for the vanilla model.
        """
        neutral = prompt.neutral
        if not self.word.strip():
            return neutral
        try:
            check_word(neutral.text, self.word, NODE)
        except ValueError:
            # The caption has the learned token in place of the class.
            check_word(prompt.vanilla.text, self.word, NODE)
            return neutral
        return SubjectText(neutral.text, self.word)

    @property
    def masked(self) -> bool:
        """True where a photograph came with a mask."""
        return any(mask is not None for part in self.photos for mask in part.masks)

    def keep(self, key: tuple, make: Callable[[], Any], lasts: bool = True, most: int = _KEPT) -> Any:
        """The value of a key, made once. The latest of its kind, the key's first part, stay. lasts: False to make it
        anew every time. most: the number of values of this kind to keep."""
        if not lasts:
            return make()
        others = [known for known in self.made if known[0] == key[0] and known != key]
        for stale in others[: max(0, len(others) + 1 - most)]:
            del self.made[stale]
        self.made[key] = self.made.pop(key) if key in self.made else make()
        return self.made[key]

    def __str__(self) -> str:
        shapes = ", ".join(f"{len(p.images)} of {p.images.shape[2]} x {p.images.shape[1]}" for p in self.photos)
        return f"{self.count} photographs ({shapes}), {sum(m is not None for p in self.photos for m in p.masks)} masked"
