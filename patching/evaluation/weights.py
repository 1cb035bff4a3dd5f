"""Weights of the metrics on the user's disk; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = "likeness_metrics"
"""Folder below ComfyUI's models in which weights are looked for first."""


class MissingWeights(FileNotFoundError):
    """Raised when a metric's weights are not on the disk; the message says what to put where."""


@dataclass(frozen=True)
class Weights:
    """Folder of a published network: its name here, its name on Hugging Face, and what to say when it is missing."""

    name: str
    repository: str
    size: str
    license: str
    files: tuple[tuple[str, ...], ...]
    """Names that the folder must have; one of each group is enough."""

    @property
    def reads_texts(self) -> bool:
        return _TOKENS[0] in self.files

    def has_all(self, folder: Path) -> bool:
        return all(any((folder / name).is_file() for name in group) for group in self.files)

    def file(self, folder: Path) -> Path:
        """File of the tensors."""
        return next(folder / name for name in _TENSORS if (folder / name).is_file())

    def find(self, folders: Iterable[Path]) -> Path:
        """First folder that has the weights. Raises MissingWeights.

        Looks for NAME in each of `folders`, and for the repository in caches of Hugging Face among them.
        """
        places = list(folders)
        for place in places:
            cached = (place / f"models--{self.repository.replace('/', '--')}" / "snapshots").glob("*")
            for folder in (place / self.name, *sorted(cached)):
                if self.has_all(folder):
                    return folder
        wanted = ", ".join(" or ".join(group) for group in self.files)
        target = places[0] / self.name if places else Path(FOLDER) / self.name
        raise MissingWeights(
            f"Expected the weights {self.name} ({self.size}, {self.license}) in {target}, got no folder with {wanted}; "
            f"put the files of huggingface.co/{self.repository} there."
        )


_TENSORS = ("model.safetensors", "pytorch_model.bin")
_TOKENS = (("tokenizer.json", "vocab.json"),)
KNOWN = {
    one.name: one
    for one in (
        Weights(
            "clip-vit-base-patch32",
            "openai/clip-vit-base-patch32",
            "605 MB",
            "MIT",
            (("config.json",), _TENSORS, *_TOKENS),
        ),
        Weights(
            "clip-vit-large-patch14",
            "openai/clip-vit-large-patch14",
            "1.7 GB",
            "MIT",
            (("config.json",), _TENSORS, *_TOKENS),
        ),
        Weights("dino-vits16", "facebook/dino-vits16", "87 MB", "Apache-2.0", (("config.json",), _TENSORS)),
        Weights("dino-vits8", "facebook/dino-vits8", "87 MB", "Apache-2.0", (("config.json",), _TENSORS)),
        Weights("dino-vitb16", "facebook/dino-vitb16", "343 MB", "Apache-2.0", (("config.json",), _TENSORS)),
        Weights("dinov2-small", "facebook/dinov2-small", "88 MB", "Apache-2.0", (("config.json",), _TENSORS)),
    )
}
"""Networks that the protocols name."""


DETECTORS = {
    one.name: one
    for one in (
        Weights(
            "owlv2-base-patch16-ensemble",
            "google/owlv2-base-patch16-ensemble",
            "620 MB",
            "Apache-2.0",
            (("config.json",), _TENSORS, *_TOKENS),
        ),
        Weights(
            "grounding-dino-tiny",
            "IDEA-Research/grounding-dino-tiny",
            "689 MB",
            "Apache-2.0",
            (("config.json",), _TENSORS, ("tokenizer.json", "vocab.txt")),
        ),
    )
}
"""Networks that find the subject."""


def detector(name: str) -> Weights:
    """Entry of DETECTORS. Raises ValueError."""
    if name not in DETECTORS:
        raise ValueError(f"Expected a detector among {', '.join(DETECTORS)}, got {name}; change its name.")
    return DETECTORS[name]


def named(name: str) -> Weights:
    """Entry of KNOWN. Raises ValueError."""
    if name not in KNOWN:
        raise ValueError(f"Expected a network among {', '.join(KNOWN)}, got {name}; change the model of the metric.")
    return KNOWN[name]


def digest(path: Path) -> str:
    """Twelve hexadecimal digits of a file's SHA-256."""
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            seen.update(block)
    return seen.hexdigest()[:12]
