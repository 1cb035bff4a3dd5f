"""The nodes that measure and choose: what they show, and what they refuse."""

import math
import types

import numpy as np
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from likeness.nodes import LikenessKeepBest, LikenessMetrics, LikenessScore
from likeness.patching.evaluation import metrics

IMAGES = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def judge():
    return LikenessMetrics.execute("tinyland-judge", "none").args[0]


def test_a_picture_is_most_like_itself(judge):
    identity, prompt, text = LikenessScore.execute(judge, IMAGES, IMAGES[1:2], "").args
    assert int(np.argmax(identity)) == 1 and identity[1] == pytest.approx(1.0, abs=1e-5)
    assert all(map(math.isnan, prompt)) and "Identity by tinyland-judge, 1 references" in text


def test_empty_masks_are_told(judge, caplog):
    masks = torch.ones(3, 16, 16)
    masks[1:] = 0
    identity = LikenessScore.execute(judge, IMAGES, IMAGES, "", masks).args[0]
    assert [math.isnan(value) for value in identity] == [False, True, True]
    assert "Likeness Score: the mask of picture 2, 3 is empty, so that it has no identity; check mask." in caplog.text


def test_the_best_are_shown_and_a_latent_needs_one(monkeypatch):
    shown = types.SimpleNamespace(as_dict=lambda: {"images": [{"filename": "x.png"}]})
    monkeypatch.setattr("likeness.nodes.metrics.ui.PreviewImage", lambda *_, **__: shown)
    found = LikenessKeepBest.execute([IMAGES], [0.1, 0.3, 0.2], [2])
    images, latent, numbers, text = found.args
    assert torch.equal(images, IMAGES[[1, 2]]) and numbers == [2, 3]
    assert isinstance(latent, ExecutionBlocker) and latent.message.startswith("Keep the Best: expected a latent")
    assert found.ui["text"] == (text,) and found.ui["images"]


def test_a_changed_file_is_loaded_again(monkeypatch, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    monkeypatch.setattr(metrics, "existing", lambda name: file)
    before = LikenessMetrics.fingerprint_inputs("dino-vits16", "none", "usual")
    file.write_bytes(b"three")
    assert before != LikenessMetrics.fingerprint_inputs("dino-vits16", "none", "usual")
