"""Segment Anything (arXiv 2304.02643) through the `segment-anything` package, as ComfyUI loads and unloads models."""

from __future__ import annotations

import math
import os
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import numpy as np
import torch

from ...kernels.heatmaps import min_max
from ...kernels.morphology import SCIPY
from ..host.checks import check_count
from ..host.quoted import shortened
from . import segmenter

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "Segment the Subject"
MISSING = "none found in models/sams"
_EXTENSIONS = {".pth", ".pt", ".safetensors"}


@dataclass(frozen=True)
class Prompts:
    """The object that the segmenter is to find. points: [n, 2] (x, y) in pixels, labels: [n] 1 inside or 0
    outside; box: left, top, right, bottom."""

    points: np.ndarray
    labels: np.ndarray
    box: np.ndarray | None = None


class _Movable(torch.nn.Module):
    """The module that the host moves between devices: the host sets `device`, which Sam itself does not allow."""

    def __init__(self, sam: torch.nn.Module):
        super().__init__()
        self.sam = sam


def checkpoints() -> list[str]:
    """The files in ComfyUI's models/sams."""
    if "sams" not in folder_paths.folder_names_and_paths:
        folder_paths.folder_names_and_paths["sams"] = (
            [os.path.join(folder_paths.models_dir, "sams")],
            set(_EXTENSIONS),
        )
    return [name for name in folder_paths.get_filename_list("sams") if os.path.splitext(name)[1].lower() in _EXTENSIONS]


def load(name: str) -> ModelPatcher:
    """A ModelPatcher around a `segment_anything` Sam.

    Raises FileNotFoundError for a missing file, ValueError for one that is no whole Segment Anything checkpoint, and
    ImportError without the package.
    """
    path = existing(name)
    try:
        check_stored(path)
        # Never unpickles code, however old the host's torch is.
        state = comfy.utils.load_torch_file(path, safe_load=True)
    except Exception as error:  # the readers of foreign bytes raise nothing narrower
        raise ValueError(
            f"{NODE}: expected a file of weights alone, got {name}, which cannot be read as one "
            f"({type(error).__name__}); download the checkpoint again, from its authors."
        ) from error
    state = state.get("model", state) if isinstance(state, dict) else {}
    sizes = segmenter.sizes(state)
    if sizes is None:
        raise ValueError(
            f"{NODE}: expected a Segment Anything checkpoint (vit_b, vit_l or vit_h), got {name}; choose another file."
        )
    try:
        model = segmenter.loaded(sizes, state, os.path.getsize(path))
    except ImportError as error:
        raise ImportError(
            f"{NODE}: expected the package segment-anything, got none; run pip install -r requirements.txt in this "
            "pack's folder with ComfyUI's Python."
        ) from error
    except Exception as error:  # as above: the sizes are those of the file
        raise ValueError(
            f"{NODE}: expected the weights of a whole Segment Anything checkpoint, got others in {name}; download it "
            "again."
        ) from error
    management = comfy.model_management
    return comfy.model_patcher.ModelPatcher(
        _Movable(model.requires_grad_(False)),
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )


def check_stored(path: str) -> None:
    """Raises ValueError for a compressed archive, which may be small and fill the memory; torch never writes one."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("a compressed archive")


def existing(name: str) -> str:
    """The path of a checkpoint in models/sams. Raises FileNotFoundError for a missing one."""
    path = None if name == MISSING or name not in checkpoints() else folder_paths.get_full_path("sams", name)
    if path is None:
        folder = folder_paths.get_folder_paths("sams")[0]
        raise FileNotFoundError(
            f"{NODE}: expected a Segment Anything checkpoint, such as sam_vit_b_01ec64.pth, in {folder}, got "
            f"{'none' if name == MISSING else repr(name)}; download one there, or connect another MASK instead."
        )
    return path


def segment(patcher: ModelPatcher, images: torch.Tensor, prompts: list[Prompts]) -> torch.Tensor:
    """The best mask of each picture's object. images: [n, height, width, 3] in 0..1. Returns [n, height, width] of 0
    and 1."""
    from segment_anything import SamPredictor

    activations = 2**31  # the largest encoder's at its own fixed resolution, as a reserve
    comfy.model_management.load_models_gpu([patcher], memory_required=activations, force_full_load=True)
    predictor = SamPredictor(patcher.model.sam)
    masks, progress = [], comfy.utils.ProgressBar(len(images))
    for image, prompt in zip(images, prompts, strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        predictor.set_image((image[..., :3].float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        found, scores, _ = predictor.predict(
            prompt.points if len(prompt.points) else None,
            prompt.labels if len(prompt.points) else None,
            prompt.box,
            multimask_output=True,
        )
        masks.append(torch.from_numpy(found[int(scores.argmax())].astype(np.float32)))
        progress.update(1)
    return torch.stack(masks)


def prompts(
    images: torch.Tensor, heatmap: torch.Tensor | None, *, threshold: float, inside: str, outside: str, box: str
) -> list[Prompts]:
    """The prompts of each picture: the box and the peak of its heatmap, and the points and the box of the texts.

    images: [n, height, width, 3]. heatmap: [height, width] or [1 or n, height, width]; its box holds the component of
    the peak above `threshold`. inside, outside: points "x,y; x,y" in pixels. box: "left,top,right,bottom", replaces the
    heatmap's. Raises ValueError for texts of another form, points outside the picture, a heatmap of another size, and
    for no prompt at all.
    """
    height, width = images.shape[1:3]
    check_texts(inside, outside, box, heatmap is not None)
    given = [*((p, 1) for p in _numbers(inside, 2, "inside")), *((p, 0) for p in _numbers(outside, 2, "outside"))]
    boxes = _numbers(box, 4, "box")
    for x, y in [p for p, _ in given] + [corner for b in boxes for corner in ((b[0], b[1]), (b[2], b[3]))]:
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"{NODE}: expected points inside the picture of {width} x {height}, got {x:g},{y:g}; change "
                "inside, outside or box."
            )
    found = None
    if heatmap is not None:
        heatmap = heatmap[None] if heatmap.ndim == 2 else heatmap
        if heatmap.shape[1:] != (height, width):
            raise ValueError(
                f"{NODE}: expected a heatmap of the picture's size, {width} x {height}, got one of "
                f"{heatmap.shape[2]} x {heatmap.shape[1]}; make it of the same picture."
            )
        check_count(len(heatmap), len(images), "heatmap", NODE)
        found = [_box_and_peak(heat, threshold) for heat in min_max(heatmap.float().cpu())]
    result = []
    for i in range(len(images)):
        points, own = list(given), np.array(boxes[0], np.float32) if boxes else None
        if found is not None:
            area, peak = found[min(i, len(found) - 1)]
            points.append((peak, 1))
            own = area if own is None else own
        coordinates = np.array([p for p, _ in points], np.float32).reshape(-1, 2)
        result.append(Prompts(coordinates, np.array([label for _, label in points], np.int64), own))
    return result


def check_texts(inside: str, outside: str, box: str, heated: bool) -> None:
    """Raises ValueError for texts of another form, and where nothing tells which object is meant.

    heated: there is a heatmap.
    """
    points, boxes = _numbers(inside, 2, "inside") + _numbers(outside, 2, "outside"), _numbers(box, 4, "box")
    if len(boxes) > 1:
        raise ValueError(f"{NODE}: expected one box, got {len(boxes)}; keep the one around the subject.")
    if not heated and not points and not boxes:
        raise ValueError(
            f"{NODE}: expected heatmap, inside or box to tell which object is meant, got none; connect or write one."
        )


def _box_and_peak(heat: torch.Tensor, threshold: float) -> tuple[np.ndarray, tuple[float, ...]]:
    """The box of the component that holds the peak of [height, width] in 0..1, and the peak."""
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    labels = SCIPY.labels((heat >= min(threshold, float(heat[y, x])))[None])[0]
    rows, columns = torch.nonzero(labels == labels[y, x], as_tuple=True)
    box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
    return np.array(box, np.float32), (float(x), float(y))


def _numbers(text: str, count: int, widget: str) -> list[tuple[float, ...]]:
    """'12,40; 30,50' as [(12, 40), (30, 50)]."""
    groups = [g.strip() for g in re.split(r"[;\n]", text) if g.strip()]
    try:
        found = [tuple(float(n) for n in re.split(r"[,\s]+", g)) for g in groups]
    except ValueError:
        found = [()]
    if any(len(g) != count or not all(map(math.isfinite, g)) for g in found):
        example = "x,y; x,y" if count == 2 else "left,top,right,bottom"
        raise ValueError(f"{NODE}: expected {widget} as {example} in pixels, got '{shortened(text)}'; change {widget}.")
    return found
