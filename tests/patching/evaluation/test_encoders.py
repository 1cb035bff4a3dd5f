"""CLIP and DINO from local folders, with tiny networks of random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from likeness.patching.evaluation import encoders, weights
from likeness.patching.evaluation.preprocessing import GEOMETRIES, Geometry
from likeness.tests.patching.evaluation.tiny_networks import LAYERS, write_networks
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, ViTConfig, ViTModel

SMALL = Geometry((("short", 64), ("crop", 64)), "bicubic", "clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of tiny networks under the names of the published ones."""
    return write_networks(tmp_path_factory.mktemp("weights"), 64)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)) for _ in range(3)]


def test_pictures_of_clip_are_its_own_embeddings(folder, pictures):
    eye = encoders.load("clip-vit-base-patch32", [folder], SMALL)
    pixels = torch.stack([SMALL.pixels(picture) for picture in pictures])
    with torch.inference_mode():
        network = CLIPModel.from_pretrained(folder / "clip-vit-base-patch32")
        expected = network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output)
    found = eye.pictures(pictures)
    assert found.shape == (3, 24) and found.dtype == np.float32
    np.testing.assert_allclose(found, torch.nn.functional.normalize(expected).numpy(), atol=1e-6)


def test_texts_of_clip_do_not_depend_on_their_neighbors(folder):
    eye = encoders.load("clip-vit-base-patch32", [folder], SMALL)
    together, alone = eye.texts(["a dog", "a a a a dog dog"]), eye.texts(["a dog"])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_dino_is_the_class_token_at_any_size(folder, pictures):
    eye = encoders.load("dino-vits16", [folder], SMALL)
    with torch.inference_mode():
        network = ViTModel.from_pretrained(folder / "dino-vits16", add_pooling_layer=False)
        pixels = torch.stack([SMALL.pixels(picture) for picture in pictures])
        expected = torch.nn.functional.normalize(network(pixel_values=pixels).last_hidden_state[:, 0]).numpy()
    np.testing.assert_allclose(eye.pictures(pictures), expected, atol=1e-6)
    larger = encoders.load("dino-vits16", [folder], GEOMETRIES["half-256-squashed"])
    assert larger.pictures(pictures[:1]).shape == (1, 32)


def test_the_key_changes_with_the_geometry_and_the_weights(folder, tmp_path):
    eye = encoders.load("dino-vits16", [folder], SMALL)
    assert eye.key != encoders.load("dino-vits16", [folder], GEOMETRIES["clip-224"]).key
    torch.manual_seed(1)
    network = ViTModel(ViTConfig(**LAYERS, image_size=64, patch_size=16), add_pooling_layer=False)
    network.save_pretrained(tmp_path / "dino-vits16")
    assert encoders.load("dino-vits16", [tmp_path], SMALL).key != eye.key


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(weights.MissingWeights) as caught:
        encoders.load("dino-vits16", [tmp_path / "one", tmp_path / "two"], SMALL)
    sentence = str(caught.value)
    for part in ("dino-vits16", "87 MB", "Apache-2.0", str(tmp_path / "one"), "config.json", "facebook/dino-vits16"):
        assert part in sentence
    assert sentence.count(". ") == 0


def test_files_that_are_no_whole_network_are_one_sentence(folder, pictures, tmp_path):
    place = tmp_path / "dino-vits16"
    shutil.copytree(folder / "dino-vits16", place)
    tensors = load_file(place / "model.safetensors")
    tensors.pop("layernorm.weight")
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"in .*dino-vits16, got files .*1 tensors are missing, such as layernorm\.weight"
    ):
        encoders.load("dino-vits16", [tmp_path], SMALL).ready()
    (place / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"Expected the whole network dino-vits16 .*; put those of huggingface\.co"):
        encoders.load("dino-vits16", [tmp_path], SMALL).pictures(pictures)


def test_a_pickled_file_gives_its_tensors_and_never_its_code(folder, pictures, tmp_path):
    place = tmp_path / "dino-vits16"
    shutil.copytree(folder / "dino-vits16", place)
    tensors = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    torch.save(tensors, place / "pytorch_model.bin")
    expected = encoders.load("dino-vits16", [folder], SMALL).pictures(pictures)
    np.testing.assert_array_equal(encoders.load("dino-vits16", [tmp_path], SMALL).pictures(pictures), expected)
    torch.save({**tensors, "more": Touches(tmp_path / "ran")}, place / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be loaded as weights alone"):
        encoders.load("dino-vits16", [tmp_path], SMALL).ready()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "evil.Evil"}, "model_type": "evil"},
        {"attn_implementation": "somebody/kernel"},
        {"quantization_config": {"quant_method": "gptq"}},
        {"text_config": {"_attn_implementation": "somebody/kernel"}},
        [],
        None,
    ],
    ids=str,
)
def test_a_config_that_names_code_is_refused(folder, tmp_path, change):
    place = tmp_path / "dino-vits16"
    shutil.copytree(folder / "dino-vits16", place)
    config = json.loads((place / "config.json").read_text())
    if change is None:
        (place / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    changed = {**config, **change} if isinstance(change, dict) else config if change is None else change
    (place / "config.json").write_text(json.dumps(changed))
    (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ValueError, match="Expected the whole network dino-vits16") as error:
        encoders.load("dino-vits16", [tmp_path], SMALL).ready()
    assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


class Touches:
    """Object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_broken_tokenizer_is_one_sentence(folder, tmp_path):
    shutil.copytree(folder / "clip-vit-base-patch32", tmp_path / "clip-vit-base-patch32")
    (tmp_path / "clip-vit-base-patch32" / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match=r"whole network clip-vit-base-patch32 .*its tokenizer"):
        encoders.load("clip-vit-base-patch32", [tmp_path], SMALL).ready()


def test_weights_in_the_cache_of_hugging_face_are_found(folder, tmp_path):
    place = tmp_path / "models--facebook--dino-vits16" / "snapshots"
    place.mkdir(parents=True)
    (place / "abc").symlink_to(folder / "dino-vits16", target_is_directory=True)
    assert weights.named("dino-vits16").find([tmp_path]) == place / "abc"


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a network among .*, got resnet"):
        encoders.load("resnet", [tmp_path], SMALL)
