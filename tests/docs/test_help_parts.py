"""Checks the pictures of files and of a segmenter's prompts: what they show is what the file or the node holds."""

import numpy as np
import pytest
import torch
from likeness.docs import help_parts
from likeness.kernels.heatmaps import colors
from likeness.patching.features.bank import HIDDEN, FeatureBank, Key
from likeness.patching.host.blocks import Layer
from likeness.patching.pick_and_draw import template_file
from likeness.patching.pick_and_draw.template import Template
from PIL import Image

LAYER = Layer("output", 4, 0)


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.output_directory", str(tmp_path))
    return tmp_path


def test_box_and_point_are_those_of_the_node():
    heat = np.zeros((64, 64), np.uint8)
    heat[20:30, 10:40], heat[24, 30] = 160, 255
    inputs = {"threshold": 0.5, "inside": "", "outside": "", "box": ""}
    drawn = help_parts.prompted(Image.new("RGB", (64, 64)), Image.fromarray(heat), inputs)
    assert drawn.getpixel((3 * 10, 3 * 25)) == drawn.getpixel((3 * 40 - 1, 3 * 25)) == help_parts.BOX
    assert drawn.getpixel((3 * 30 + 1, 3 * 24 + 1)) == help_parts.POINT
    whole = help_parts.prompted(Image.new("RGB", (64, 64)), Image.fromarray(heat), {**inputs, "threshold": 0.0})
    assert whole.getpixel((1, 90)) == help_parts.BOX


def test_levels_run_from_high_to_low(output):
    left, right = torch.zeros(2, 1, 16, 16)
    left[..., :8], right[..., 8:] = 1, 1
    name = template_file.save(Template("SD 1.x", {LAYER: {0.5: right, 8.0: left}}), "one").name
    first, last = (help_parts.stored("LikenessSaveTemplate", output, name, f"map {place}") for place in (0, 1))
    assert (first[1], last[1]) == ("8", "0.5")
    hot = tuple((colors(torch.ones(1))[0] * 255).round().int().tolist())
    assert first[0].getpixel((0, 64)) == last[0].getpixel((127, 64)) == hot != first[0].getpixel((127, 64))


def test_features_lie_where_the_mask_is():
    mask, bank = torch.zeros(16, 16), FeatureBank()
    mask[4:8, 6:12] = 1
    bank.put(Key("model", HIDDEN, LAYER, True), 2.0, torch.randn(1, 24, 8, generator=torch.manual_seed(0)))
    pixels, label = help_parts._features(bank, 0.0, mask)
    gray = (pixels == 0.3).all(-1)
    assert pixels.shape == (128, 128, 3) and label == "2"
    assert gray[:32].all() and gray[:, :48].all() and not gray[32:64, 48:96].all(0).any()
