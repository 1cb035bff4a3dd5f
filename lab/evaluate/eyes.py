"""Networks that look at pictures: CLIP and DINO from local files, and the judge of the demo's world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ...demo import judge
from ...demo.launcher.files import Problem
from ...demo.world.captions import PLACE_PHRASES, named_extras
from ...demo.world.scene import CLASSES
from ...patching.evaluation import detector as detectors
from ...patching.evaluation import encoders, weights
from ...patching.evaluation.detector import Detector
from ...patching.evaluation.judge import JUDGE, JudgeEncoder, scaled
from ...patching.evaluation.preprocessing import GEOMETRIES
from .subjects import Subject


class Eye(Protocol):
    """Network that embeds pictures; `key` names it, its weights and its preprocessing."""

    key: str

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray: ...


class JudgeEye(JudgeEncoder):
    """Judge of Tinyland. It compares with no published network."""

    def right(self, picture: Image.Image, noun: str, prompt: str) -> float:
        """1 for a picture that shows the class, the place and the extras of its prompt, 0 for any other."""
        place = next((place for place, phrase in PLACE_PHRASES.items() if phrase in prompt), None)
        wanted = {"class": noun, "extras": named_extras(prompt)} | ({"place": place} if place else {})
        verdict = judge.Judge(self.network).look(np.array(scaled(picture))[None])
        return float(judge.prompt_accuracy(verdict, [wanted])[0])


def check_classes(metric: str, subjects: Iterable[Subject]) -> None:
    """Raises Problem for a subject of a class that the judge does not know."""
    for subject in subjects:
        if subject.noun not in CLASSES:
            raise Problem(
                f"The metric {metric} knows the classes {', '.join(CLASSES)}, and {subject.name} is a {subject.noun}: "
                "leave the metric out with --metrics."
            )


def load(specification: Mapping[str, Any], folders: Sequence[Path], device: str) -> Eye:
    """Network of a protocol's metric, ready for use. Raises Problem for missing or broken weights."""
    try:
        if specification["model"] == JUDGE:
            return JudgeEye()
        eye = encoders.load(specification["model"], folders, GEOMETRIES[specification["geometry"]], device)
        eye.ready()
        return eye
    except weights.MissingWeights as error:
        raise Problem(f"{str(error).rstrip('.')}, or name another folder with --weights.") from error
    except ValueError as error:
        raise Problem(str(error)) from error


def detector(name: str, folders: Sequence[Path], device: str) -> Detector:
    """Detector of the subjects, ready for use. Raises Problem for missing or broken weights."""
    try:
        return detectors.load(name, folders, device)
    except (FileNotFoundError, ValueError) as error:
        raise Problem(str(error)) from error


def folders(named: Path | None) -> list[Path]:
    """Places of the metrics' weights: the named one, ComfyUI's models, and the cache of Hugging Face."""
    from ...patching.evaluation import metrics

    return [*([named] if named else []), *metrics.folders()]
