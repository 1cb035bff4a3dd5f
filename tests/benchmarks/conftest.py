"""A Tinyland of random weights and a judge that looks at average colours, so that benchmarks can be run without training."""

import json
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from likeness.demo.subjects import SUBJECTS
from likeness.demo.training import autoencoder, denoiser
from likeness.demo.training.loop import write_weights
from likeness.demo.world import CLASSES, COLOURS, PATTERNS, PLACES


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    """A folder laid out as demo/weights, with LoRAs and embeddings for the first two subjects and the first one."""
    folder = tmp_path_factory.mktemp("weights")
    cpu = torch.device("cpu")
    model = denoiser.Denoiser(cpu)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
    write_weights(tensors, folder / "denoiser.safetensors", {"tinyland": {"vocabulary": model.words}})
    tensors = {f"first_stage_model.{k}": v for k, v in autoencoder.build(cpu).state_dict().items()}
    colours = {"latent_rgb_factors": [[0.1] * 3] * 4, "latent_rgb_factors_bias": [0.0] * 3}
    write_weights(tensors, folder / "autoencoder.safetensors", {"tinyland": colours})
    first, second = list(SUBJECTS)[:2]
    for name in (first, second):
        lora = {}
        for path, weight in model.unet.named_parameters():
            if path.endswith("attn2.to_v.weight"):
                key = f"diffusion_model.{path.removesuffix('.weight')}"
                lora |= {f"{key}.lora_up.weight": torch.randn(len(weight), 4), f"{key}.lora_down.weight": torch.randn(4, weight.shape[1])}
        write_weights(lora, folder / "subjects" / f"{name}.safetensors", {"tinyland_subject": json.dumps({"name": name})})
    write_weights({"clip_l": torch.randn(3, 128)}, folder / "embeddings" / f"{first}.safetensors", {"tinyland_embedding": "{}"})
    return folder


@dataclass(frozen=True)
class StubVerdict:
    class_index: np.ndarray
    colour_index: np.ndarray
    pattern_index: np.ndarray
    place_index: np.ndarray
    embedding: np.ndarray
    centre: np.ndarray


class StubJudge:
    @classmethod
    def load(cls):
        return cls()

    def look(self, images):
        assert images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == (128, 128, 3)
        mean = images.reshape(len(images), -1, 3).mean(1)
        total = mean.sum(1).astype(int)
        indices = [total % len(words) for words in (CLASSES, COLOURS, PATTERNS, PLACES)]
        return StubVerdict(*indices, mean / np.linalg.norm(mean + 1e-3, axis=1, keepdims=True), mean[:, :2] / 255)


@pytest.fixture
def stub_judge(monkeypatch):
    """Puts a module with the judge's interface in the place of likeness.demo.judge, for modules that import it afresh."""
    import likeness.demo

    module = types.ModuleType("likeness.demo.judge")
    module.Judge, module.Verdict = StubJudge, StubVerdict
    module.identity = lambda verdict, references: verdict.embedding @ references.embedding.mean(0)
    module.layout_spread = lambda verdict: float(verdict.centre.std(0).mean())
    fresh = [name for name in sys.modules if name.startswith("likeness.benchmarks.") or name == "likeness.demo.judge"]
    for name in fresh:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "likeness.demo.judge", module)
    monkeypatch.setattr(likeness.demo, "judge", module, raising=False)
    yield module
    for name in [name for name in sys.modules if name.startswith("likeness.benchmarks.")]:
        del sys.modules[name]
