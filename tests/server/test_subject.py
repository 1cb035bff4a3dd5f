"""The Subject node over HTTP: growing inputs, masks of LoadImage, and refusals when the graph is queued."""

import pytest
from likeness.tests.server.prompts import failure, only

SUBJECT, PALETTE = "6", "7"


def link(prompt: dict, name: str, kind: str, **inputs) -> None:
    """Connects a new node to an input of the Subject node."""
    prompt[name] = {"class_type": kind, "inputs": inputs}
    prompt[SUBJECT]["inputs"][name] = [name, 0]


@pytest.fixture
def made(workflow):
    """The workflow up to the palette of its photographs."""
    prompt = workflow("subject")
    only(prompt, "AppearancePalette")["source"] = "noised"
    return {node: entry for node, entry in prompt.items() if int(node) <= int(PALETTE)}


def test_photographs_of_any_size_make_one_palette(client, made):
    scale = {"upscale_method": "area", "width": 96, "height": 160, "crop": "disabled", "image": ["4", 0]}
    link(made, "images.image2", "ImageScale", **scale)
    link(made, "masks.mask0", "SolidMask", value=0.0, width=64, height=64)
    result = client.run(made)
    assert len(result.images(PALETTE)) == 4
    assert "The mask of image0 is empty" in result.text(SUBJECT)


def test_a_mask_without_its_photograph_is_refused(client, made):
    link(made, "masks.mask5", "SolidMask", value=1.0, width=64, height=64)
    failure(client, made, "Subject: ", "got mask5 alone; connect the photograph to image5")


def test_a_word_that_is_not_in_the_prompt(client, made):
    made[SUBJECT]["inputs"]["word"] = "car"
    failure(client, made, "Subject: ", "got 'car'; change word")
