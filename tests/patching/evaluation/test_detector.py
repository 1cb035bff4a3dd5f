"""OWLv2 with a tiny network of random weights: its box, and its place in a picture that is not square."""

import json

import numpy as np
import pytest
import torch
from likeness.patching.evaluation import detector, weights
from likeness.tests.patching.evaluation.tiny_networks import LAYERS, WORDS
from PIL import Image
from transformers import Owlv2Config, Owlv2ForObjectDetection

NAME = "owlv2-base-patch16-ensemble"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    text = LAYERS | {"vocab_size": len(WORDS), "bos_token_id": 7, "eos_token_id": 8, "max_position_embeddings": 16}
    vision = LAYERS | {"image_size": 64, "patch_size": 16}
    settings = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)  # pyright: ignore[reportArgumentType]
    network = Owlv2ForObjectDetection(settings)
    with torch.no_grad():  # boxes of some size
        for values in (*network.box_head.parameters(), *network.class_head.parameters()):
            values.mul_(0.3)
    network.save_pretrained(place / NAME)
    (place / NAME / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (place / NAME / "merges.txt").write_text("#version: 0.2\no g</w>\nd og</w>\n")
    return place


def found(folder, picture, threshold=0.0):
    one = detector.Detector(NAME, folder / NAME, threshold=threshold)
    one.ready()
    return one.box(picture, "dog")


def test_the_box_is_that_of_the_network(folder):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    one = detector.load(NAME, [folder])
    words = one.tokenizer(["a photo of a dog"], padding="max_length", max_length=16, return_tensors="pt")
    geometry = detector.Geometry((("squash", 64),), "bilinear", "clip")
    with torch.inference_mode():
        network = Owlv2ForObjectDetection.from_pretrained(folder / NAME)
        said = network(**words, pixel_values=geometry.pixels(picture)[None])
    best = int(said.logits[0, :, 0].argmax())
    x, y, width, height = (said.pred_boxes[0, best] * 64).tolist()
    expected = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 64)
    assert found(folder, picture) == pytest.approx(expected, abs=1e-3)


def test_a_box_stays_inside_a_picture_that_is_not_square(folder):
    wide = Image.new("RGB", (96, 40), (200, 30, 30))
    square = Image.new("RGB", (96, 96), (127, 127, 127))
    square.paste(wide, (0, 0))
    left, top, right, bottom = found(folder, wide)
    assert (left, right) == pytest.approx(found(folder, square)[::2]) and 0 <= top <= bottom <= 40
    mask = detector.filled((left, top, right, bottom), wide.size)
    assert mask.shape == (40, 96) and mask.sum() == (round(right) - round(left)) * (round(bottom) - round(top))


def test_nothing_found_is_an_empty_mask(folder):
    assert found(folder, Image.new("RGB", (64, 64)), threshold=1.1) is None
    assert not detector.filled(None, (30, 20)).any()


def test_missing_and_broken_weights_are_one_sentence(tmp_path):
    with pytest.raises(weights.MissingWeights, match=r"Expected the weights owlv2-base-patch16-ensemble \(620 MB"):
        detector.load(NAME, [tmp_path])
    place = tmp_path / NAME
    place.mkdir()
    for name in ("config.json", "vocab.json", "model.safetensors"):
        (place / name).write_text("{")
    with pytest.raises(ValueError, match=r"Expected the whole network owlv2-base-patch16-ensemble .*; put those of"):
        detector.load(NAME, [tmp_path])
