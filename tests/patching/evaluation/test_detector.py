"""Detectors with tiny networks of random weights: their box, and its place in a picture that is not square."""

import json

import numpy as np
import pytest
import torch
from likeness.patching.evaluation import detector, weights
from likeness.tests.patching.evaluation.tiny_networks import LAYERS, WORDS
from PIL import Image
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
)

OWL, DINO = NAMES = ("owlv2-base-patch16-ensemble", "grounding-dino-tiny")
SQUARE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
WIDE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 96, 3), dtype=np.uint8))


def write_owl(folder):
    text = LAYERS | {"vocab_size": len(WORDS), "bos_token_id": 7, "eos_token_id": 8, "max_position_embeddings": 16}
    vision = LAYERS | {"image_size": 64, "patch_size": 16}
    settings = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)  # pyright: ignore[reportArgumentType]
    network = Owlv2ForObjectDetection(settings)
    with torch.no_grad():  # boxes of some size
        for values in (*network.box_head.parameters(), *network.class_head.parameters()):
            values.mul_(0.3)
    network.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\no g</w>\nd og</w>\n")


def write_dino(folder):
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "cat", ".")
    swin = {"model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    swin |= {"window_size": 2, "out_features": ["stage2", "stage3", "stage4"], "out_indices": [2, 3, 4]}
    text = {"model_type": "bert", "vocab_size": len(words), "max_position_embeddings": 32, **LAYERS}
    size = {"d_model": 32, "num_queries": 20, "encoder_layers": 1, "decoder_layers": 2, "max_text_len": 16}
    size |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    settings = GroundingDinoConfig(backbone_config=swin, text_config=text, **size)  # pyright: ignore[reportArgumentType]
    GroundingDinoForObjectDetection(settings).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name, write in ((OWL, write_owl), (DINO, write_dino)):
        (place / name).mkdir()
        write(place / name)
    return place


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(detector.GroundingDino, "short", 128)
    monkeypatch.setattr(detector.GroundingDino, "long", 240)


def found(folder, name, picture, threshold=0.0, noun="dog"):
    one = detector.KINDS[name](name, folder / name, threshold=threshold)
    one.ready()
    return one.box(picture, noun)


def clipped(box, width, height):
    return pytest.approx(np.clip(box, 0, [width, height, width, height]), abs=1e-3)


def test_the_box_is_that_of_owl(folder):
    one = detector.load(OWL, [folder])
    words = one.tokenizer(["a photo of a dog"], padding="max_length", max_length=16, return_tensors="pt")
    geometry = detector.Geometry((("squash", 64),), "bilinear", "clip")
    with torch.inference_mode():
        network = Owlv2ForObjectDetection.from_pretrained(folder / OWL)
        said = network(**words, pixel_values=geometry.pixels(SQUARE)[None])
    best = int(said.logits[0, :, 0].argmax())
    x, y, width, height = (said.pred_boxes[0, best] * 64).tolist()
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    assert found(folder, OWL, SQUARE) == clipped(expected, 64, 64)


@pytest.mark.parametrize("picture", [SQUARE, WIDE])
def test_the_box_is_that_of_grounding_dino(folder, picture):
    images = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 240})
    processor = GroundingDinoProcessor(images, BertTokenizer.from_pretrained(folder / DINO))
    given = processor(images=picture, text=[["Dog"]], return_tensors="pt")
    network = GroundingDinoForObjectDetection.from_pretrained(folder / DINO).eval()
    with torch.inference_mode():
        said = network(**given)
    [known] = processor.post_process_grounded_object_detection(
        said, threshold=0.0, target_sizes=[(picture.height, picture.width)]
    )
    best = int(known["scores"].argmax())
    assert found(folder, DINO, picture, noun="Dog") == pytest.approx(
        clipped(known["boxes"][best].numpy(), *picture.size).expected, abs=0.05
    )
    assert found(folder, DINO, picture, noun="cat") != found(folder, DINO, picture)


def test_a_box_stays_inside_a_picture_that_is_not_square(folder):
    wide = Image.new("RGB", (96, 40), (200, 30, 30))
    square = Image.new("RGB", (96, 96), (127, 127, 127))
    square.paste(wide, (0, 0))
    left, top, right, bottom = found(folder, OWL, wide)
    assert (left, right) == pytest.approx(found(folder, OWL, square)[::2]) and 0 <= top <= bottom <= 40
    mask = detector.filled((left, top, right, bottom), wide.size)
    assert mask.shape == (40, 96) and mask.sum() == (round(right) - round(left)) * (round(bottom) - round(top))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_found_is_an_empty_mask(folder, name):
    assert found(folder, name, Image.new("RGB", (64, 64)), threshold=1.1) is None
    assert not detector.filled(None, (30, 20)).any()


@pytest.mark.parametrize(("name", "size"), [(OWL, "620 MB"), (DINO, "689 MB")])
def test_missing_and_broken_weights_are_one_sentence(tmp_path, name, size):
    with pytest.raises(weights.MissingWeights, match=rf"Expected the weights {name} \({size}"):
        detector.load(name, [tmp_path])
    place = tmp_path / name
    place.mkdir()
    for file in ("config.json", "vocab.json", "vocab.txt", "model.safetensors"):
        (place / file).write_text("{")
    with pytest.raises(ValueError, match=rf"Expected the whole network {name} .*; put those of"):
        detector.load(name, [tmp_path])


def test_every_known_detector_has_its_network():
    assert set(detector.KINDS) == set(weights.DETECTORS)
