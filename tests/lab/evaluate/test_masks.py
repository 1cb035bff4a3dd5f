"""Masks by a detector, with Segment Anything inside of its box."""

import types

import numpy as np
import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import masks
from likeness.patching.layout_and_retouch import segment
from likeness.tests import tiny_segmenter
from PIL import Image

BOX = (8.0, 4.0, 40.0, 30.0)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.fixture
def sams(tmp_path, monkeypatch):
    monkeypatch.setitem(segment.folder_paths.folder_names_and_paths, "sams", ([str(tmp_path)], {".pth"}))
    return tmp_path


def finder(box):
    return types.SimpleNamespace(key="finder", box=lambda picture, noun: box)


def test_every_photo_and_picture_is_looked_at_for_its_class(make):
    plan = make(["lora"])
    source = masks.detected(plan, finder(BOX))
    assert source.nouns["nemo/0"] == "fish" and source.nouns["lora/taxi/0/00-7"] == "car"
    assert source.key("nemo/0", "abc") == source.key("lora/nemo/0/00-7", "abc") != source.key("taxi/0", "abc")
    box = source.mask("nemo/0", PICTURE)
    assert box.shape == (48, 64) and box[4:30, 8:40].all() and box.sum() == 26 * 32


def test_segment_anything_works_inside_the_box(sams):
    tiny_segmenter.write(sams)
    source = masks.DetectedMasks(finder(BOX), {"a": "fish"}, "sam_vit_b_01ec64.pth")  # pyright: ignore[reportArgumentType]
    found = source.mask("a", PICTURE)
    other = masks.DetectedMasks(finder((0.0, 0.0, 9.0, 9.0)), {"a": "fish"}, "sam_vit_b_01ec64.pth")  # pyright: ignore[reportArgumentType]
    assert found.shape == (48, 64) and found.dtype == bool and (found != other.mask("a", PICTURE)).any()
    nothing = masks.DetectedMasks(finder(None), {"a": "fish"}, "sam_vit_b_01ec64.pth")  # pyright: ignore[reportArgumentType]
    assert not nothing.mask("a", PICTURE).any()


def test_a_missing_segmenter_is_one_sentence_before_the_slow_part(make, sams):
    with pytest.raises(Problem, match=rf"expected a Segment Anything checkpoint, .* in {sams}, got 'sam\.pth'"):
        masks.detected(make(["lora"]), finder(BOX), "sam.pth")  # pyright: ignore[reportArgumentType]
