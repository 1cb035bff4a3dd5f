"""Picture geometry against torchvision's, and each detail that moves a published number."""

import numpy as np
import pytest
import torch
from likeness.patching.evaluation.preprocessing import GEOMETRIES, STATISTICS, Geometry
from PIL import Image
from torchvision.transforms import v2


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (301, 403, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "resize", "interpolation", "crop"),
    [
        ("imagenet-256-224", 256, "BICUBIC", 224),
        ("clip-224", 224, "BICUBIC", 224),
        ("half-224-squashed", (224, 224), "BILINEAR", None),
        ("half-256-squashed", (256, 256), "BICUBIC", None),
        ("timm-248-224", 248, "BICUBIC", 224),
    ],
)
def test_a_geometry_is_the_one_of_torchvision(picture, name, resize, interpolation, crop):
    geometry = GEOMETRIES[name]
    steps = [v2.Resize(resize, getattr(v2.InterpolationMode, interpolation))]
    steps += [v2.CenterCrop(crop)] if crop else []
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*STATISTICS[geometry.statistics])]
    torch.testing.assert_close(geometry.pixels(picture), v2.Compose(steps)(picture))


def test_golden_pixels():
    ramp = Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint16).reshape(40, 30, 3).astype(np.uint8))
    pixels = GEOMETRIES["imagenet-256-224"].pixels(ramp)
    found = [round(float(pixels[channel, row, column]), 4) for channel, row, column in GOLDEN]
    assert found == list(GOLDEN.values())


GOLDEN = {(0, 0, 0): -1.3302, (1, 100, 17): -0.215, (2, 223, 223): 1.8905}


def test_the_published_geometries_differ(picture):
    tensors = {name: geometry.pixels(picture) for name, geometry in GEOMETRIES.items()}
    assert {tuple(tensor.shape) for tensor in tensors.values()} == {(3, 224, 224), (3, 256, 256)}
    assert len({round(float(tensor.abs().mean()), 5) for tensor in tensors.values()}) == len(GEOMETRIES)


def test_a_square_picture_is_not_changed_by_its_own_size():
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    tensor = Geometry((("short", 8), ("crop", 8)), "bicubic", "half").pixels(Image.fromarray(pixels))
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), pixels / 127.5 - 1, atol=1e-6)
