"""Training loop of every trainer: resumable checkpoints, warm-up/constant/decay schedule, averaged weights, loss
curve."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from ...patching.tinyland.weights import pack
from ..launcher.files import ROOT, replacing

WEIGHTS = ROOT / "demo" / "weights"


def initialize(module: torch.nn.Module, seed: int) -> None:
    """Fills a module with random weights; ComfyUI's operations leave their memory uninitialized."""
    torch.manual_seed(seed)
    for layer in module.modules():
        for kind in (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Embedding):
            if isinstance(layer, kind):
                kind.reset_parameters(layer)  # pyright: ignore[reportArgumentType] - an instance of its class


class Trainer:
    """Runs `loss_of_step(step) -> loss` with AdamW until `steps`, saving every `save_every` seconds.

    The learning rate warms up over 200 steps, stays constant, and falls linearly to zero over the last `decay` of the
    steps. A resumed run may therefore have another number of steps. `rate_of_step(step)` replaces this schedule and
    `optimizer` replaces AdamW; with an `average` of 0 no average is kept.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        modules: torch.nn.Module,
        steps: int,
        learning_rate: float,
        device: torch.device,
        decay: float = 0.25,
        average: float = 0.999,
        save_every: float = 120.0,
        seed: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
        rate_of_step: Callable[[int], float] | None = None,
        longest_gradient: float = 1.0,
        log_every: int = 20,
    ):
        self.name, self.folder, self.modules, self.steps = name, folder, modules, steps
        self.learning_rate, self.decay, self.average, self.save_every = learning_rate, decay, average, save_every
        self.device, self.seed, self.longest_gradient, self.log_every = device, seed, longest_gradient, log_every
        self.rate_of_step = rate_of_step or self._rate
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = optimizer or torch.optim.AdamW(
            self.parameters, learning_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
        )
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.step, self.losses = 0, []
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = folder / f"{name}.checkpoint.pt"
        if self.checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        for kept, stored in zip(self.averaged, state["averaged"], strict=True):
            kept.copy_(stored)
        self.step, self.losses = state["step"], state["losses"]
        print(f"{self.name}: resumed at step {self.step}", flush=True)

    def save(self) -> None:
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "losses": self.losses,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)
        draw_curve(self.losses, self.folder / f"{self.name}.loss.png", f"{self.name}: loss")

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / 200)
        fall = min(1.0, max(1e-3, (self.steps - step) / max(1.0, self.decay * self.steps)))
        return self.learning_rate * warm * fall

    def run(self, loss_of_step: Callable[[int], torch.Tensor]) -> None:
        """Trains, then leaves the averaged weights in the modules."""
        started = saved = time.monotonic()
        first = self.step
        while self.step < self.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate_of_step(self.step)
            torch.manual_seed(self.seed * 1_000_003 + self.step)
            loss = loss_of_step(self.step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, self.longest_gradient)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            with torch.no_grad():
                rate = min(self.average, (1 + self.step) / (10 + self.step))
                torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - rate)
            if self.step % self.log_every == 0:
                self.losses.append([self.step, float(loss.detach())])
            if self.step % 100 == 0:
                pace = (time.monotonic() - started) / (self.step - first)
                recent = np.mean([x for _, x in self.losses[-10:]])
                left = pace * (self.steps - self.step) / 60
                print(
                    f"{self.name}: step {self.step}/{self.steps} loss {recent:.4f}, {pace:.3f} s/step, {left:.0f} min "
                    "left",
                    flush=True,
                )
            if time.monotonic() - saved > self.save_every:
                self.save()
                saved = time.monotonic()
        self.save()
        self.use_averaged()

    def use_averaged(self) -> None:
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, self.averaged, strict=True):
                parameter.copy_(kept)


def draw_curve(losses: list, path: Path, title: str) -> None:
    """Draws a smoothed loss curve on a logarithmic axis."""
    if len(losses) < 3:
        return
    steps, values = np.array(losses, dtype=float).T
    width = max(1, len(values) // 200)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    steps = steps[-len(smooth) :]
    w, h, margin = 640, 360, 48
    image = Image.new("RGB", (w, h), "white")
    draw = ImageDraw.Draw(image)
    logs = np.log10(np.maximum(smooth, 1e-8))
    low, high = float(logs.min()), float(max(logs.max(), logs.min() + 1e-3))
    x = margin + (w - 2 * margin) * steps / steps[-1]
    y = h - margin - (h - 2 * margin) * (logs - low) / (high - low)
    draw.rectangle([margin, margin, w - margin, h - margin], outline=(200, 200, 200))
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(30, 90, 200), width=2)
    draw.text((margin, 16), title, fill="black")
    draw.text((4, margin), f"{10**high:.3g}", fill="black")
    draw.text((4, h - margin - 10), f"{10**low:.3g}", fill="black")
    draw.text((w - margin - 40, h - margin + 8), f"{int(steps[-1])}", fill="black")
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def write_weights(
    tensors: dict[str, torch.Tensor],
    path: Path,
    facts: dict,
    eight_bit: bool = False,
    base: dict[str, torch.Tensor] | None = None,
) -> None:
    """Writes safetensors with metadata, in fp16 or in 8 bits (`weights.pack`).

    base: with eight_bit, write changes of these weights.
    """
    stored, entry = pack(tensors, base) if eight_bit else (tensors, {})
    kept = {k: v.detach().to("cpu", v.dtype if eight_bit else torch.float16).contiguous() for k, v in stored.items()}
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()} | entry
    with replacing(path) as temporary:
        save_file(kept, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors makes it readable only by its owner
