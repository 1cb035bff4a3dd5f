"""Pool of rendered scenes on disk, shared by every trainer: images, masks and scene descriptions."""

from __future__ import annotations

import inspect
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from ..launcher.files import digest, replacing
from ..world import drawing, extras, figures, patterns, places, scene, shapes
from ..world.scene import SIZE, Scene, render, sample_scene

_CHUNK = 500
_DRAWN_BY = (drawing, extras, figures, patterns, places, shapes)


def scene_of(index: int, seed: int = 0) -> Scene:
    """Scene number `index` of the training world."""
    return sample_scene(Random(f"tinyland-{seed}-{index}"))


SceneOf = Callable[[int, int], Scene]


def sources(scene_of: SceneOf = scene_of) -> list[Path]:
    """Source files that determine how the scenes look."""
    return [Path(inspect.getfile(part)) for part in (scene, *_DRAWN_BY, scene_of)]


def _render_chunk(arguments: tuple[str, int, int, int, SceneOf]) -> int:
    folder, start, stop, seed, scene_of = arguments
    count = stop - start
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((count, SIZE, SIZE), np.uint8)
    for i in range(count):
        rendered = render(scene_of(start + i, seed))
        images[i], masks[i] = rendered.image, rendered.mask
    with replacing(Path(folder) / f"{start:07d}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate([images, masks[..., None]], axis=-1))
    return start


class Pool:
    """Pool of `len(pool)` scenes as one [n, size, size, 4] uint8 array (RGB and mask).

    The files are reused until the code that draws them changes. workers: processes that draw, None for one per core.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        seed: int = 0,
        workers: int | None = None,
        scene_of: SceneOf = scene_of,
        name: str = "pool",
    ):
        folder = folder / f"{name}-{seed}-{digest(*sources(scene_of))}"
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, _CHUNK)
        missing = [
            (str(folder), s, s + _CHUNK, seed, scene_of) for s in starts if not (folder / f"{s:07d}.npy").exists()
        ]
        if missing:
            print(f"rendering {len(missing) * _CHUNK} scenes", flush=True)
            with multiprocessing.get_context("spawn").Pool(workers or os.cpu_count()) as processes:
                for _ in processes.imap_unordered(_render_chunk, missing):
                    pass
        self.pixels = [np.load(folder / f"{s:07d}.npy", mmap_mode="r") for s in starts]
        self.count = len(starts) * _CHUNK
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def images(self, indices: np.ndarray) -> np.ndarray:
        """[n, size, size, 3] uint8."""
        return np.stack([self.pixels[i // _CHUNK][i % _CHUNK, ..., :3] for i in indices])

    def masks(self, indices: np.ndarray) -> np.ndarray:
        """[n, size, size] uint8."""
        return np.stack([self.pixels[i // _CHUNK][i % _CHUNK, ..., 3] for i in indices])

    scene_of = staticmethod(scene_of)
