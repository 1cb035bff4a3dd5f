"""Networks as the nodes load them: found in the host's folders, moved by the host, refused in one sentence."""

import folder_paths
import numpy as np
import pytest
from likeness.patching.evaluation import metrics
from likeness.patching.evaluation.judge import JUDGE, JudgeEncoder
from likeness.tests.patching.evaluation.tiny_networks import write_networks
from PIL import Image

CLIP = "clip-vit-base-patch32"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def installed(weights, monkeypatch):
    """Puts the tiny networks into models/likeness_metrics."""
    known = {**folder_paths.folder_names_and_paths, "likeness_metrics": ([str(weights)], set())}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8))


@pytest.mark.usefixtures("installed")
def test_the_host_moves_what_the_encoders_compute(weights, picture):
    found = metrics.load("dino-vits16", CLIP)
    assert (found.identity.name, found.prompt and found.prompt.name) == ("dino-vits16", CLIP)
    alone = metrics.encoders.load("dino-vits16", [weights], metrics.GEOMETRIES["imagenet-256-224"])
    np.testing.assert_allclose(found.identity.pictures([picture]), alone.pictures([picture]), atol=1e-6)
    assert found.prompt and found.prompt.texts(["a dog"]).shape == (1, 24)
    loaded = metrics.comfy.model_management.current_loaded_models
    assert any(one.model is found.identity.patcher for one in loaded)


@pytest.mark.usefixtures("installed")
def test_one_network_serves_both_and_a_geometry_changes_identity_alone(picture):
    both = metrics.load(CLIP, CLIP)
    assert both.prompt is both.identity
    other = metrics.load(CLIP, CLIP, "half-224-squashed")
    assert other.prompt is not other.identity and other.prompt
    np.testing.assert_array_equal(other.prompt.pictures([picture]), both.identity.pictures([picture]))
    assert np.abs(other.identity.pictures([picture]) - both.identity.pictures([picture])).max() > 1e-4


def test_the_judge_comes_with_the_pack_and_finds_the_subject(picture):
    found = metrics.load(JUDGE, metrics.NONE)
    assert found.prompt is None and found.identity.pictures([picture]).shape == (1, 64)
    assert JudgeEncoder().mask(picture).shape == (80, 90)
    with pytest.raises(
        ValueError, match=r"^Likeness Metrics: expected geometry usual for tinyland-judge, got clip-224"
    ):
        metrics.load(JUDGE, metrics.NONE, "clip-224")


def test_missing_and_broken_networks_are_one_sentence(weights, monkeypatch, tmp_path):
    monkeypatch.setattr(metrics, "folders", lambda: [tmp_path])
    with pytest.raises(
        ValueError, match=r"^Likeness Metrics: expected the weights dino-vits8 \(87 MB, Apache-2.0\) in"
    ):
        metrics.existing("dino-vits8")
    place = tmp_path / "dino-vits8"
    place.mkdir()
    (place / "config.json").write_bytes((weights / "dino-vits16" / "config.json").read_bytes())
    (place / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"^Likeness Metrics: expected the whole network dino-vits8 .*; put those of"):
        metrics.load("dino-vits8", metrics.NONE)


def test_clip_takes_pictures_of_its_own_size_alone():
    assert "half-256-squashed" in metrics.fitting("dino-vits16")
    with pytest.raises(ValueError, match="for clip-vit-base-patch32, got half-256-squashed; change geometry"):
        metrics.load(CLIP, metrics.NONE, "half-256-squashed")
