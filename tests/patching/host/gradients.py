"""Gradients through tiny models as the host runs them, and through the same networks with ordinary tensors."""

import contextlib

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from likeness.patching.host.blocks import Layer
from likeness.patching.host.frozen_autograd import Stop, gradient
from likeness.patching.host.unet import UNET
from likeness.tests.patching.tiny_models import _base_model, conditioning, latent, tiny_model
from torch.overrides import TorchFunctionMode

LAYERS = (Layer("input", 4, 0), Layer("middle", 0, 0), Layer("output", 4, 0))
LAST = LAYERS[-1]
SIGMA = 3.0
CHECKPOINTED = pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])


def inference_model(family="sd1", dtype=torch.float32):
    """A MODEL loaded in inference mode; its own seed gives it weights that no other test file shares."""
    with torch.inference_mode():
        model = tiny_model(family, dtype, seed=41)
    assert all(p.is_inference() for p in model.model.diffusion_model.parameters())
    return model


def patcher(base):
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(base, device, comfy.model_management.unet_offload_device())


def ordinary_model(family="sd1", dtype=torch.float32):
    """A MODEL of the same weights as ordinary tensors, which autograd may save."""
    with torch.inference_mode(False):
        return patcher(_base_model(family, dtype, 41))


@contextlib.contextmanager
def sampling(model, latents, positive=None, loaded=True):
    """The guider's setup and cleanup of a run; yields the prompt's conds as samplers hold them."""
    if loaded:
        comfy.model_management.load_models_gpu([model])
    conds = comfy.sampler_helpers.convert_cond(conditioning(model, seed=10) if positive is None else positive)
    model.pre_run()
    try:
        yield comfy.samplers.process_conds(model.model, latents, {"positive": conds}, latents.device, seed=0)[
            "positive"
        ]
    finally:
        model.cleanup()


def stop_at(read, last):
    """A reader that passes everything to `read` and ends the forward pass after the layer `last`."""

    def reader(layer, *seen) -> None:
        read(layer, *seen)
        if layer == last:
            raise Stop

    return reader


def noisy(rows=1, height=16, width=16, seed=2):
    return SIGMA * latent(rows, height, width, seed)["samples"]


class Features:
    """Readers of hidden states by layer, and a loss of them per row."""

    def __init__(self, scale=1.0):
        self.scale, self.seen = scale, {}

    def read(self, layer, hidden, size):
        self.seen[layer] = hidden

    def options(self, model, last=None):
        """The model's options with these readers; they end the forward pass after `last`."""
        read = self.read if last is None else stop_at(self.read, last)
        return {
            **model.model_options,
            "transformer_options": self.tapped(model.model_options["transformer_options"], read),
        }

    def tapped(self, options, read):
        return UNET.tap_hidden_states(options, LAYERS, read)

    def loss(self):
        return self.scale * sum(self.score(layer, hidden) for layer, hidden in self.seen.items())

    def score(self, layer, hidden):
        wanted = torch.randn(
            hidden.shape[1:], generator=torch.Generator().manual_seed(layer.number), dtype=torch.float64
        )
        return (hidden.to(torch.promote_types(hidden.dtype, torch.float32)) - wanted.to(hidden)).pow(2).mean((1, 2))


def ours(model, x, last=None, scale=1.0, conds=None, loaded=True, **settings):
    features = Features(scale)
    with sampling(model, x, conds, loaded) as conds:
        sigma = torch.full([len(x)], SIGMA)
        return gradient(
            model.model, conds, x, sigma, features.options(model, last), loss=features.loss, node="Node", **settings
        )


class _OutOfPlace(TorchFunctionMode):
    """A ControlNet, whose residuals the host adds in place to tensors that a graph has saved."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return torch.add(*args) if func is torch.Tensor.add_ else func(*args, **(kwargs or {}))


def ordinary(model, x, conds=None, scale=1.0, loaded=True):
    """d loss / d x of a network of ordinary tensors, by plain autograd."""
    with torch.inference_mode(False), torch.enable_grad(), _OutOfPlace():
        features, x = Features(scale), x.clone().requires_grad_()
        with sampling(model, x.detach(), conds, loaded) as conds:
            options = features.options(model)
            options["transformer_options"]["optimized_attention_override"] = lambda f, *a, **k: (
                host_attention.attention_pytorch(*a, **k)
            )
            comfy.samplers.calc_cond_batch(model.model, [conds], x, torch.full([len(x)], SIGMA), options)
            return torch.autograd.grad(features.loss().sum(), x)[0] / scale


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def untouched(network, before):
    for module in network.modules():
        assert "forward" not in module.__dict__
    for name, value in network.named_parameters():
        weight, requires_grad = before[name]  # which older hosts leave set
        assert torch.equal(value.view(torch.uint8), weight.view(torch.uint8))
        assert value.grad is None and value.requires_grad == requires_grad


def weights_of(network):
    return {name: (value.clone(), value.requires_grad) for name, value in network.named_parameters()}
