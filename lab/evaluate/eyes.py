"""Networks that look at pictures: CLIP and DINO from local files, and the judge of the demo's world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ...demo import judge
from ...demo.launcher.files import Problem
from ...demo.world.captions import PLACE_PHRASES
from ...patching.evaluation import encoders, weights
from ...patching.evaluation.preprocessing import GEOMETRIES

JUDGE = "tinyland-judge"


class Eye(Protocol):
    """Network that embeds pictures; `key` names it, its weights and its preprocessing."""

    key: str

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray: ...


class JudgeEye:
    """Judge of Tinyland. It compares with no published network."""

    key = JUDGE

    def __init__(self) -> None:
        self.judge = judge.Judge.load()

    def _look(self, pictures: Sequence[Image.Image]) -> judge.Verdict:
        return self.judge.look(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self._look(pictures).embedding

    def mask(self, picture: Image.Image) -> np.ndarray:
        return self._look([picture]).mask[0] > 0.5

    def right(self, picture: Image.Image, noun: str, prompt: str) -> float:
        """1 for a picture that shows the class and the place of its prompt, 0 for any other."""
        place = next((place for place, phrase in PLACE_PHRASES.items() if phrase in prompt), None)
        wanted = {"class": noun} | ({"place": place} if place else {})
        return float(judge.prompt_accuracy(self._look([picture]), [wanted])[0])


def load(specification: Mapping[str, Any], folders: Sequence[Path], device: str) -> Eye:
    """Network of a protocol's metric. Raises Problem for missing weights."""
    try:
        if specification["model"] == JUDGE:
            return JudgeEye()
        return encoders.load(specification["model"], folders, GEOMETRIES[specification["geometry"]], device)
    except (FileNotFoundError, ValueError) as error:  # MissingWeights is the first
        raise Problem(str(error)) from error


def folders(named: Path | None) -> list[Path]:
    """Places of the metrics' weights: the named one, ComfyUI's models, and the cache of Hugging Face."""
    import folder_paths
    from huggingface_hub.constants import HF_HUB_CACHE

    own = [Path(folder_paths.models_dir) / weights.FOLDER]
    clip = [Path(place) for place in folder_paths.get_folder_paths("clip_vision")]
    return [*([named] if named else []), *own, *clip, Path(HF_HUB_CACHE)]
