"""Tinyland and judge with random weights, so that benchmarks run without training."""

import functools
import json
from dataclasses import replace

import pytest
import torch
from likeness.benchmarks import layout_and_retouch_comparison, layout_and_retouch_runs, peers_comparison
from likeness.benchmarks.networks import small_network
from likeness.demo.judge.network import Judge, Network
from likeness.demo.training import autoencoder, denoiser
from likeness.demo.training.loop import write_weights
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.features.references import Reference
from likeness.patching.pick_and_draw import build_palette
from likeness.patching.tinyland.model import UNET_CONFIG
from likeness.tests.random_weights import write_joint


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Halves Tinyland's width: what a benchmark computes of random weights is the same for every width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(UNET_CONFIG, "model_channels", 32)
        yield


@pytest.fixture(autouse=True)
def short_inversions(monkeypatch):
    """Inverts references on as many levels as a run has."""
    for module in (build_palette, layout_and_retouch_runs):
        monkeypatch.setattr(module, "Reference", functools.partial(Reference, inversion_steps=1))
    for module in (layout_and_retouch_comparison, peers_comparison):
        monkeypatch.setattr(module, "references", functools.partial(module.references, inversion_steps=1))


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """Folder with the layout of demo/weights, LoRAs of the first two subjects and an embedding of the first."""
    folder = tmp_path_factory.mktemp("weights")
    cpu = torch.device("cpu")
    model = denoiser.Denoiser(cpu)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    tensors |= {f"cond_stage_model.clip_l.transformer.{k}": v for k, v in model.text.state_dict().items()}
    write_weights(tensors, folder / "denoiser.safetensors", {"tinyland": {"vocabulary": model.words}})
    write_joint(model.unet, folder)
    tensors = {f"first_stage_model.{k}": v for k, v in autoencoder.build(cpu).state_dict().items()}
    colors = {"latent_rgb_factors": [[0.1] * 3] * 4, "latent_rgb_factors_bias": [0.0] * 3}
    write_weights(tensors, folder / "autoencoder.safetensors", {"tinyland": colors})
    first, second = list(SUBJECTS)[:2]
    for name in (first, second):
        lora = {}
        for path, weight in model.unet.named_parameters():
            if path.endswith("attn2.to_v.weight"):
                key = f"diffusion_model.{path.removesuffix('.weight')}"
                lora |= {
                    f"{key}.lora_up.weight": torch.randn(len(weight), 4),
                    f"{key}.lora_down.weight": torch.randn(4, weight.shape[1]),
                }
        write_weights(
            lora, folder / "subjects" / f"{name}.safetensors", {"tinyland_subject": json.dumps({"name": name})}
        )
    write_weights(
        {"clip_l": torch.randn(3, 128)}, folder / "embeddings" / f"{first}.safetensors", {"tinyland_embedding": "{}"}
    )
    return folder


@pytest.fixture(scope="session")
def one_level():
    """A network of one level, measured as Tinyland is: what is measured, and how, is the same for every network."""
    with torch.inference_mode():
        return replace(small_network(2), prefix="tinyland_", side=4)


@pytest.fixture
def random_judge(monkeypatch):
    """Makes Judge.load() return a judge with random weights that finds a subject in every picture."""
    torch.manual_seed(0)
    eye = Judge(Network())
    monkeypatch.setattr(Judge, "load", classmethod(lambda _cls: eye))
    return eye
