"""The vanilla model's attention in a layout's first steps: read in passes of its own, lent to the target."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch

from ...kernels.layout_and_retouch import followed
from ..features.bank import FeatureBank
from ..features.host_memory import HostMemory, sent
from ..features.trajectory import Trajectory, same_level
from ..host.blocks import Block, Layer, layers_of
from ..host.family import Attention, Family, Options, SelfAttentionChange
from ..host.joint_attention import JointAttention
from ..host.rows import indices, take
from ..host.run import Call, Forward
from ..host.tokens import Tokens
from ..host.window import ALWAYS, Window
from .settings import NODE, QK_SELF, QKV_BOTH

SELF, CROSS = "self", "cross"
_UNLIKE = 0.1

Variables = tuple[torch.Tensor, ...]
"""The output of an attention layer, or its queries and keys: [rows, tokens, width] each, on the CPU."""


@dataclass(eq=False)
class VanillaFeatures:
    """The attention of the vanilla model in the layout's own calls, for the length of one run.

    of_calls: by call and side of guidance, then by layer. outputs: those for blending, as a layout's own run keeps
    them. answers: both sides of the first call. reading: the layout's call that the vanilla model makes now.
    """

    early: str
    reading: int = 0
    of_calls: dict[tuple[int, bool], dict[tuple[str, Layer], Variables]] = field(default_factory=dict)
    outputs: FeatureBank = field(default_factory=FeatureBank)
    answers: dict[bool, torch.Tensor] = field(default_factory=dict)
    _memory: HostMemory = field(default_factory=HostMemory)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def copy_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the CPU, complete after `arrive`."""
        with self._lock:
            return self._memory.copy_of(tensor)

    def arrive(self) -> None:
        """Waits for the copies that are still under way."""
        with self._lock:
            self._memory.wait()

    @property
    def size_in_bytes(self) -> int:
        found = (t for layers in self.of_calls.values() for kept in layers.values() for t in kept)
        return sum(t.numel() * t.element_size() for t in found)

    def call_at(self, layout: Trajectory, call: int | None, sigma: float) -> int | None:
        """The layout's call whose attention a target's call borrows; None where the vanilla model was not run."""
        if call is not None:
            return call if (call, True) in self.of_calls else None
        known = [i for i, _ in self.of_calls if same_level(layout.sigmas[i], sigma)]
        return known[0] if known else None

    def unlike(self, layout: Trajectory) -> bool:
        """True where no guidance scale makes the layout's recorded answer from the vanilla model's two sides."""
        if len(self.answers) < 2 or not layout.denoised:
            return False
        call = min(i for i, _ in self.of_calls)
        uncond, cond = self.answers[False].flatten(), self.answers[True].flatten()
        apart, wanted = cond - uncond, layout.denoised[call].flatten() - uncond
        rest = wanted - apart * (wanted @ apart) / (apart @ apart).clamp(min=1e-12)
        return float(rest.norm()) > _UNLIKE * float(wanted.norm())


@dataclass(frozen=True, eq=False)
class VanillaReading:
    """A patch of the vanilla model that keeps the attention of its calls."""

    family: Family
    blocks: tuple[Block, ...]
    features: VanillaFeatures
    node: str = NODE
    window: Window = ALWAYS

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        features, layers = self.features, layers_of(self.blocks)
        first = min((i for i, _ in features.of_calls), default=features.reading)
        for flag in call.flags:
            features.of_calls[features.reading, flag] = {}
        options = self.family.change_self_attention(call.options, layers, _Keep(SELF, features, call))
        if features.early != QK_SELF:
            options = self.family.attend_across(options, layers, _Keep(CROSS, features, call))
        made = forward(replace(call, options=options))
        if features.reading == first:
            features.answers |= {
                f: features.copy_of(take(made, indices(call.rows, None, f)).float()) for f in call.flags
            }
        return made


@dataclass(frozen=True, eq=False)
class _Keep(SelfAttentionChange):
    """Keeps the variables of the layers of one call, and changes nothing."""

    kind: str
    features: VanillaFeatures
    call: Call

    @property
    def attends(self) -> bool:
        return True

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        output = attention(q, k, v)
        kept = (output,) if self.features.early == QKV_BOTH else (q, k)
        for flag in self.call.flags:
            rows = indices(self.call.rows, None, flag)
            found = tuple(self.features.copy_of(take(tokens.of_picture(t), rows)) for t in kept)
            self.features.of_calls[self.features.reading, flag][self.kind, layer] = found
        return output


@dataclass(frozen=True, eq=False)
class VanillaSwap(SelfAttentionChange):
    """Queries, keys and values of the target's rows become the vanilla model's (arXiv 2407.09779, Algorithm 1, line 9).

    The attention of all three is its output, so that alone is kept for them. call: the target's; number: the layout's.
    """

    features: VanillaFeatures
    call: Call
    number: int
    strength: float = 1.0
    kind: str = SELF

    def applied(self, options: Options, family: Family, layers: Collection[Layer]) -> Options:
        """The options of the call with the vanilla model's attention in all `layers`."""
        options = family.change_self_attention(options, layers, self)
        return options if self.features.early == QK_SELF else family.attend_across(options, layers, self._across)

    @property
    def _across(self) -> VanillaSwap:
        """The same change of cross-attention."""
        return VanillaSwap(self.features, self.call, self.number, self.strength, CROSS)

    @property
    def attends(self) -> bool:
        return True

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        layout = [
            torch.cat([self._rows(flag, layer, q)[i] for flag in self.call.flags])
            for i in range(1 if self.features.early == QKV_BOTH else 2)
        ]
        if isinstance(attention, JointAttention):
            return self._joint(layout, q, k, v, attention)
        if self.features.early == QKV_BOTH:
            return layout[0] if self.strength == 1 else followed(attention(q, k, v), layout[0], self.strength)
        if layout[1].shape != k.shape:
            raise ValueError(
                f"{NODE}: expected the vanilla model's prompt and the target's to have one length, got "
                f"{layout[1].shape[1]} and {k.shape[1]} tokens; make the longer prompt shorter, or set early_swap to "
                f"{QKV_BOTH}."
            )
        return attention(followed(q, layout[0], self.strength), followed(k, layout[1], self.strength), v)

    def _joint(
        self,
        layout: list[torch.Tensor],
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attention: JointAttention,
    ) -> torch.Tensor:
        """The same where prompt and picture share a sequence: the prompt's tokens keep their own attention."""
        count = attention.tokens.picture
        if self.features.early == QKV_BOTH:
            made = layout[0]
            if self.strength < 1:
                made = followed(attention.of_picture(q[:, :count], k, v), made, self.strength)
            return attention.completed(made, q, k, v)
        q, k = (
            torch.cat([followed(own[:, :count], t, self.strength), own[:, count:]], 1)
            for own, t in zip((q, k), layout, strict=True)
        )
        return attention(q, k, v)

    def _rows(self, flag: bool, layer: Layer, like: torch.Tensor) -> list[torch.Tensor]:
        kept = self.features.of_calls[self.number, flag][self.kind, layer]
        return [self.call.shown.of_pictures(sent(t, like), NODE) for t in kept]
