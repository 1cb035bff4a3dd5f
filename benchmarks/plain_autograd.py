"""Pick-and-Draw's guidance by plain autograd, as its paper's kind of code takes it: what a guided step is timed by.

The same losses, read by hooks of PyTorch's modules, in a copy of the network with ordinary weights.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.model_patcher import CoreModelPatcher
from comfy.patcher_extension import WrappersMP

from ..kernels.attention import cross_attention_map
from ..kernels.heatmaps import inside
from ..kernels.pick_and_draw import layout_loss, saliency_mask, score, step_of_gradient
from ..kernels.uremd import uremd
from ..patching.host.blocks import Layer
from ..patching.host.frozen_autograd import differentiable
from ..patching.host.frozen_layers import _alias
from ..patching.host.identity import identity_of
from ..patching.host.run import KEY
from .timing import CFG, SCHEDULER, SEED

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher

    from .networks import Network


class PlainGuidance:
    """Guided Euler runs of a network. guided: its MODEL with the node's guidance, whose losses and step these take."""

    def __init__(self, network: Network, guided: ModelPatcher):
        (wrapper,) = guided.get_wrappers(WrappersMP.CALC_COND_BATCH, KEY)
        guidance = wrapper.guidance
        self.network, self.settings, self.terms = network, guidance.settings, guidance.settings.terms
        self.palette, self.template = guidance.palette, guidance.template
        self.weights = identity_of(network.personalized).name
        self.appearance = self.terms.appearance.layers if self.terms.appearance else ()
        self.layout = self.terms.layout.layers if self.terms.layout else ()
        self.seen: dict[tuple[str, Layer], torch.Tensor] = {}
        self.model = self._copy()

    def _copy(self) -> ModelPatcher:
        """The loaded MODEL with ordinary tensors in the same memory, which autograd may save."""
        comfy.model_management.load_models_gpu([self.network.personalized])
        base = self.network.personalized.model
        with torch.inference_mode(False):
            held = [*base.diffusion_model.parameters(), *base.diffusion_model.buffers()]
            memo: dict[int, Any] = {
                id(t): torch.nn.Parameter(_alias(t), requires_grad=False)
                if isinstance(t, torch.nn.Parameter)
                else _alias(t)
                for t in held
            }
            own = copy.copy(base)
            own._modules = dict(base._modules)
            own.diffusion_model = copy.deepcopy(base.diffusion_model, memo)
        self._listen(own.diffusion_model)
        device = comfy.model_management.get_torch_device()
        return CoreModelPatcher(own, load_device=device, offload_device=comfy.model_management.unet_offload_device())

    def _listen(self, network: Any) -> None:
        """Hooks the modules whose inputs and outputs the losses read."""
        maps = {*self.layout, *(self.settings.map_layers if self.appearance else ())}
        for layer, block in _layers(network):
            if layer in self.appearance:
                block.attn1.register_forward_pre_hook(lambda _, given, key=("hidden", layer): self._keep(key, given[0]))
            if layer in maps:
                block.attn2.to_q.register_forward_hook(lambda _, given, q, key=("q", layer): self._keep(key, q))
                block.attn2.to_k.register_forward_hook(lambda _, given, k, key=("k", layer): self._keep(key, k))
        self._maps = maps
        self._heads = {layer: block.attn2.heads for layer, block in _layers(network)}

    def _keep(self, key: tuple[str, Layer], values: torch.Tensor) -> None:
        self.seen[key] = values

    def sample(self, steps: int) -> torch.Tensor:
        """Samples the network's latent with every step guided."""
        network, empty = self.network, self.network.latent["samples"]
        with torch.inference_mode(False), torch.no_grad():
            guider = comfy.samplers.CFGGuider(self.model)
            guider.set_conds(network.personalized_positive, network.negative)
            guider.set_cfg(CFG)
            made = comfy.samplers.KSampler(self.model, steps, self.model.load_device, "euler", SCHEDULER)
            noise = comfy.sample.prepare_noise(empty, SEED)
            sampler = comfy.samplers.KSAMPLER(self._euler)
            return guider.sample(noise, empty.clone(), sampler, made.sigmas, disable_pbar=True, seed=SEED)

    def _euler(self, model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, **_) -> torch.Tensor:
        guider, options = model.inner_model, extra_args["model_options"]
        for sigma, following in itertools.pairwise(sigmas):
            x = self.moved(guider.inner_model, guider.conds["positive"], x, float(sigma), options)
            denoised = model(x, sigma.expand(len(x)), **extra_args)
            x = x + (x - denoised) / sigma * (following - sigma)
        return x

    def moved(self, base: BaseModel, conds: list, x: torch.Tensor, sigma: float, options: dict) -> torch.Tensor:
        """The latent after a relative step against the score's gradient."""
        losses, slope = self.gradient(base, conds, x, sigma, options)
        size = self.settings.step_size * max(term.weight for term in self.terms.present)
        ends = losses if self.terms.appearance is None else None
        return x - step_of_gradient(x, slope, sigma, size, kind=self.settings.step, loss=ends)

    def gradient(
        self, base: BaseModel, conds: list, x: torch.Tensor, sigma: float, options: dict
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of each latent, [images], and d score / d x."""
        options = {**options, "transformer_options": differentiable(options["transformer_options"])}
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            comfy.samplers.calc_cond_batch(base, [conds], x, torch.full([len(x)], sigma, device=x.device), options)
            losses = self._score(x.shape[-2:], sigma)
            (slope,) = torch.autograd.grad(losses.sum(), x)
        self.seen.clear()
        return losses.detach(), slope

    def _score(self, latent: torch.Size, sigma: float) -> torch.Tensor:
        parts = []
        maps = {layer: self._map(layer, latent) for layer in self._maps}
        if self.terms.appearance is not None:
            parts.append((self.terms.appearance.weight, self._distance(maps, latent, sigma)))
        if self.terms.layout is not None:
            found = [maps[layer] for layer in self.layout]
            wanted = [self.template.at(layer, sigma).to(here) for layer, here in zip(self.layout, found, strict=True)]
            difference = layout_loss(found, wanted, self.settings.kernel_size, self.settings.kernel_width)
            parts.append((self.terms.layout.weight, difference))
        return score(parts)

    def _map(self, layer: Layer, latent: torch.Size) -> torch.Tensor:
        """The words' share of a layer's attention, [images, height, width]."""
        words, q, k = self.settings.words, self.seen["q", layer], self.seen["k", layer]
        shares = cross_attention_map(q, k, self._heads[layer], words.tokens).mean(-1)
        return shares.unflatten(1, _size(q.shape[1], latent))

    def _distance(self, maps: dict[Layer, torch.Tensor], latent: torch.Size, sigma: float) -> torch.Tensor:
        """The appearance loss, [images]."""
        chosen = [maps[layer].detach() for layer in self.settings.map_layers]
        _, height, width = max((m.shape for m in chosen), key=math.prod)
        salient = saliency_mask(chosen, (height, width), self.settings.threshold)
        losses = []
        for layer in self.appearance:
            features = self.seen["hidden", layer]
            subject = inside(salient, _size(features.shape[1], latent))
            palette = torch.cat([v.to(features) for v, _ in self.palette.features(self.weights, layer, sigma)])
            losses.append(
                torch.stack(
                    [
                        uremd(features[i], palette, self.settings.direction, generated_mask=subject[i])
                        for i in range(len(features))
                    ]
                )
            )
        return torch.stack(losses).mean(0)


def _size(tokens: int, latent: torch.Size) -> tuple[int, int]:
    """The (height, width) of a layer with so many tokens, in a network that halves a square latent."""
    assert latent[0] == latent[1]
    side = math.isqrt(tokens)
    return side, side


def _layers(network: Any) -> Iterator[tuple[Layer, Any]]:
    """The transformer blocks of a U-Net, by layer."""
    stages = {"input": network.input_blocks, "middle": [network.middle_block], "output": network.output_blocks}
    for kind, modules in stages.items():
        for number, module in enumerate(modules):
            blocks = [b for m in module.children() if isinstance(m, SpatialTransformer) for b in m.transformer_blocks]
            for index, block in enumerate(blocks):
                yield Layer(kind, number, index), block
