"""The strips over the dial: every value of one workflow in one prompt, and the picture of them."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

DIALS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "draw_dials.py"))


@pytest.mark.parametrize("name", list(DIALS["STRIPS"]))
def test_a_strip_draws_every_value_from_one_noise(name):
    prompt, shown = DIALS["graph"](name)
    samplers = [node["inputs"] for node in prompt.values() if node["class_type"] == "LikenessSampler"]
    assert [inputs["likeness"] for inputs in samplers] == [*DIALS["VALUES"]]
    assert len({(str(inputs["seed"]), str(inputs["latent"])) for inputs in samplers}) == 1
    assert len(shown) == 1 + len(samplers) and {prompt[node]["class_type"] for node in shown} == {"PreviewImage"}
    links = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert all(link[0] in prompt for link in links)
    assert not any(node["class_type"] == "SaveImage" for node in prompt.values())


def test_the_strip_has_the_photo_first():
    pictures = [Image.new("RGB", (128, 128), (20 * i, 0, 0)) for i in range(len(DIALS["VALUES"]) + 1)]
    strip = DIALS["composed"](pictures)
    side, gap = DIALS["SIDE"], DIALS["GAP"]
    assert strip.width == len(pictures) * (side + gap) - gap and strip.height > side
    assert [strip.getpixel((i * (side + gap) + side // 2, side // 2))[0] for i in range(len(pictures))] == [
        20 * i for i in range(len(pictures))
    ]
