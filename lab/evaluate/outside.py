"""Metrics of other packages: Inception Score by torch-fidelity, and ImageReward in a Python of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ...demo.launcher.files import Problem
from ...demo.launcher.pythons import clean_variables
from .subjects import opened

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
REWARD_FILES = ("ImageReward.pt", "med_config.json", "bert-base-uncased/vocab.txt")
REWARD = Path(__file__).with_name("image_reward.py")


def inception_weights(folders: Sequence[Path]) -> Path:
    """File of the Inception network. Raises Problem without torch-fidelity or its weights."""
    if importlib.util.find_spec("torch_fidelity") is None:
        raise Problem(
            "The metric of kind inception needs torch-fidelity, which is not installed: run `pip install "
            "torch-fidelity` with ComfyUI's Python, or leave the metric out with --metrics."
        )
    weights = next((place / INCEPTION for place in folders if (place / INCEPTION).is_file()), None)
    if weights is None:
        raise Problem(
            f"Expected the weights {INCEPTION} (91 MB, Apache-2.0) in {folders[0]}, got none; put the file of "
            "github.com/toshas/torch-fidelity/releases there, or name another folder with --weights."
        )
    return weights


def inception_score(pictures: Sequence[Path], folders: Sequence[Path], device: str = "cpu") -> float:
    """Inception Score of some pictures, in ten parts where there are as many. Raises Problem."""
    import torch_fidelity  # pyright: ignore[reportMissingImports]

    found = torch_fidelity.calculate_metrics(
        input1=_Files(pictures),
        isc=True,
        isc_splits=min(10, len(pictures)),
        feature_extractor_weights_path=str(inception_weights(folders)),
        cuda=device.startswith("cuda"),
        save_cpu_ram=True,  # loads pictures in this process
        verbose=False,
    )
    return float(found["inception_score_mean"])


class _Files(Dataset):
    """Data set of torch-fidelity: pictures as uint8 tensors [3, height, width]."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return torch.from_numpy(np.array(opened(self.paths[index]))).permute(2, 0, 1)


def reward_python(python: Path | None) -> Path:
    """Python that was named for ImageReward. Raises Problem for none."""
    if python is None or not python.is_file():
        raise Problem(
            "ImageReward needs a Python of its own, because its package is too old for ComfyUI's: make an environment "
            "with `pip install image-reward 'transformers<4.56' git+https://github.com/openai/CLIP.git`, and name its "
            "Python with --image-reward-python."
        )
    return python


def reward_weights(folder: Path | None) -> Path | None:
    """Folder of ImageReward's files; None for the cache of its package. Raises Problem for a file that is missing."""
    missing = [name for name in REWARD_FILES if folder is not None and not (folder / name).is_file()]
    if missing:
        raise Problem(
            f"Expected the files of ImageReward ({', '.join(REWARD_FILES)}, Apache-2.0) in {folder}, got no "
            f"{missing[0]}: put those of huggingface.co/THUDM/ImageReward and google-bert/bert-base-uncased there, or "
            "leave the metric out with --metrics."
        )
    return folder


def image_rewards(python: Path | None, weights: Path | None, pairs: Sequence[tuple[Path, str]]) -> list[float]:
    """ImageReward of pictures and texts, computed by another Python that has image-reward. Raises Problem."""
    python = reward_python(python)
    wanted = [{"picture": str(path.resolve()), "text": text} for path, text in pairs]
    done = subprocess.run(
        # Absolute, but not resolved: the Python of a virtual environment is a link.
        [str(python.absolute()), str(REWARD), str(weights.resolve()) if weights else ""],
        cwd=weights,  # the package asks for its tokenizer by a name, which is a folder there
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=clean_variables(HF_HUB_OFFLINE="1"),
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Problem(f"ImageReward ended with code {done.returncode} ({said}): mend its environment, {python}.")
    try:
        values = json.loads((done.stdout.splitlines() or [""])[-1])
    except ValueError as error:
        raise Problem(f"ImageReward gave no list of values ({error}): mend its environment, {python}.") from error
    if not isinstance(values, list) or len(values) != len(wanted):
        raise Problem(f"ImageReward gave other than {len(wanted)} values for its pictures: mend {python}.")
    return [float(value) for value in values]
