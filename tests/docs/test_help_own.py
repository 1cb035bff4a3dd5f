"""Checks that the graphs of the help pages' pictures take a checkpoint and photographs of the user's own."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from likeness.docs import draw_help
from likeness.docs.help_own import Own
from likeness.docs.help_pictures import PICTURES

OPTIONS = Namespace(
    checkpoint=Path("sd15.safetensors"), lora=Path("my_dog.safetensors"), subject="dog", token="sks dog"
)


def own(**changes) -> Own:
    options = Namespace(**{**vars(OPTIONS), **changes})
    checkpoint = SimpleNamespace(family=SimpleNamespace(side=512))
    return Own(options, checkpoint, [], True, ["photo_0.png", "photo_1.png"])  # pyright: ignore[reportArgumentType]


DRAWN = [picture for pictures in PICTURES.values() for picture in pictures if own().draws(picture)]


def test_most_nodes_are_drawn():
    assert len(DRAWN) >= 20 and {picture.file for picture in DRAWN} >= {"LikenessSampler.webp", "AdaptiveMask.webp"}


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture.file)
def test_nothing_of_the_demo_is_left(picture):
    found, shown = draw_help.graph(picture, change=own().change)
    kinds = {node["class_type"] for node in found.values()}
    assert not {kind for kind in kinds if kind.startswith("LikenessDemo")} and "CheckpointLoaderSimple" in kinds
    texts = [value for node in found.values() for value in node["inputs"].values() if isinstance(value, str)]
    assert not [text for text in texts if "fish" in text or text in ("demo", "output3", "output2-5")]
    for panel in picture.panels:
        prompt = draw_help.changed(panel, own().change)
        for node in prompt.values():
            if node["class_type"] == "EmptyLatentImage":
                assert (node["inputs"]["width"], node["inputs"]["height"]) == (512, 512)
    assert all(node in found for node, _ in shown)
    assert not [node for node in found.values() if node["inputs"].get("layout_blocks") == "paper"]
    for node in found.values():
        text, word = (node["inputs"].get(name) for name in ("text", "word"))
        if isinstance(text, str) and isinstance(word, str):
            assert word in text


def test_the_lora_is_loaded_with_the_strength_of_the_demo_s():
    picture = next(p for p in PICTURES["MultiSourceAttnSwap"] if not p.dial)
    found, _ = draw_help.graph(picture, change=own().change)
    (lora,) = [node for node in found.values() if node["class_type"] == "LoraLoaderModelOnly"]
    assert lora["inputs"]["lora_name"] == "my_dog.safetensors" and lora["inputs"]["strength_model"] == 0.6
    without, _ = draw_help.graph(picture, change=own(lora=None, token="").change)
    assert "LoraLoaderModelOnly" not in {node["class_type"] for node in without.values()}
