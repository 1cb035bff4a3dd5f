"""Metrics of other packages, whose places stubs take: these test the adapters and not the metrics."""

import re
import sys
import types
from pathlib import Path

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import outside


def test_the_inception_score_uses_the_device(tmp_path, monkeypatch):
    """A stub takes the package's place, so this tests the adapter and not the metric."""
    given = []
    stub = types.SimpleNamespace(
        calculate_metrics=lambda **options: given.append(options) or {"inception_score_mean": 2}
    )
    monkeypatch.setitem(sys.modules, "torch_fidelity", stub)
    monkeypatch.setattr(outside, "inception_weights", lambda folders: tmp_path)
    assert [outside.inception_score([], [], device) for device in ("cpu", "cuda")] == [2.0, 2.0]
    assert [options["cuda"] for options in given] == [False, True]


def test_image_reward_speaks_with_another_python(tmp_path, monkeypatch):
    """A stub takes the package's place, so this tests the adapter and not the metric."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\nPYTHONPATH="$(dirname "$0")" exec "$REAL" "$@"\n'.replace("$REAL", sys.executable))
    stub.chmod(0o755)
    (tmp_path / "ImageReward.py").write_text(
        "import os\nclass Model:\n    def score(self, prompt, image):\n"
        "        return len(prompt) + image.endswith('.png') / 2\n"
        "def load(name='ImageReward-v1.0', device='cpu', download_root=None, med_config=None):\n"
        "    assert med_config is None or os.path.isfile(name) and os.path.isfile('bert-base-uncased/vocab.txt')\n"
        "    print('load checkpoint from %s' % name)\n    return Model()\n"
    )
    pairs = [(tmp_path / "a.png", "abc"), (tmp_path / "b.jpg", "abcd")]
    assert outside.image_rewards(stub, None, pairs) == [3.5, 4.0]
    weights = tmp_path / "weights"
    for name in outside.REWARD_FILES:
        with pytest.raises(Problem, match=f"got no {re.escape(name)}: put those of"):
            outside.reward_weights(weights)
        (weights / name).parent.mkdir(parents=True, exist_ok=True)
        (weights / name).touch()
    assert outside.reward_weights(weights) == weights and outside.reward_weights(None) is None
    assert outside.image_rewards(stub, weights, pairs) == [3.5, 4.0]
    with monkeypatch.context() as here:
        here.chdir(tmp_path)
        assert outside.image_rewards(Path("python"), Path("weights"), pairs) == [3.5, 4.0]
    (tmp_path / "ImageReward.py").write_text("raise ImportError('no such name')")
    with pytest.raises(Problem, match=r"ImageReward ended with code 1 \(ImportError: no such name\)"):
        outside.image_rewards(stub, None, pairs)
