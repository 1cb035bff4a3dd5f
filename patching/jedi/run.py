"""What lives for one sampling run of a set: its references at every noise level, and who looks at what."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch

from ...kernels.diffusion import ddim_step
from ..features.bank import digest_of
from ..features.references import Reference
from ..host.blocks import Block, Layer, layers_of
from ..host.families import family_of
from ..host.window import ALWAYS, Window
from .coupling import Chunks, Coupling
from .format import JointFormat
from .members import Member

JOINT, TEXT_FIRST, IMAGE_FIRST, TEXT_ONLY = PRESETS = ("joint", "text_first", "image_first", "text_only")
FRESH, FIXED, NEVER = NOISES = ("fresh", "fixed", "never")


@dataclass(frozen=True)
class JointSettings:
    """How a set is sampled.

    guidance: one of PRESETS; image_cfg: the references' guidance scale, where it is not the text's. strength, blocks,
    window: of the coupling. reference_noise: `fresh` noise on the references at every level (RePaint's rule), `fixed`,
    or `never` replaced: from the first level on they are denoised with the rest. token_dropout: which part of every
    picture the others do not look at, another one at every level. query_blend: how much of the queries comes from the
    pictures by themselves, up to `query_blend_end` of sampling. format: how a nine-channel model wants its input, None
    for four channels. pictures: how many of a batch are a set, so that several sets with the same references are
    sampled at once; None is all of them.
    """

    guidance: str = JOINT
    image_cfg: float = 1.0
    strength: float = 1.0
    blocks: tuple[Block, ...] = ()
    window: Window = ALWAYS
    reference_noise: str = FRESH
    token_dropout: float = 0.0
    query_blend: float = 0.0
    query_blend_end: float = 0.0
    format: JointFormat | None = None
    pictures: int | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        return layers_of(self.blocks)

    def shares(self, members: int) -> bool:
        """Whether there is anything to share in any step."""
        return members > 1 and self.strength > 0 and bool(self.blocks) and not self.window.empty


class JointRun:
    """Sets of `count` pictures to generate, then the references."""

    def __init__(
        self,
        model,
        settings: JointSettings,
        references: Sequence[Reference],
        members: Sequence[Member],
        count: int,
        sets: int,
        seed: int,
    ):
        self.settings, self.count, self._sets, self._seed = settings, count, sets, seed
        self.family = family_of(model, "JointImageSampler")
        self._members: list[Member | None] = [*([None] * count), *members]
        # By what it shows, so that references in another order are the same set; a picture that is given twice has two
        # noises.
        shown = [f"{item.seed} {digest_of([[m.samples, {}]])}" for item, m in zip(references, members, strict=True)]
        noises = [f"{seed} {name} {shown[:i].count(name)}" for i, name in enumerate(shown)]
        self._noises = [name if i == 0 else f"{name} {i}" for i in range(sets) for name in noises]
        clean = [model.model.process_latent_in(member.samples.float().cpu()) for member in members]
        self.known: torch.Tensor | None = torch.cat(clean) if clean else None
        sampling = model.get_model_object("model_sampling")
        self._noise_scaling = sampling.noise_scaling
        self._window = settings.window.resolve(sampling)
        self._blended = Window(0.0, settings.query_blend_end).resolve(sampling)
        self._chunks = Chunks()
        self._there: torch.Tensor | None = None
        self._last: tuple[float, torch.Tensor, torch.Tensor] | None = None
        self._coupled = self._has_blended = False

    def couples(self, sigma: float) -> bool:
        return self.settings.shares(len(self._members)) and self._window.contains(sigma)

    def blends(self, sigma: float) -> bool:
        return self.settings.query_blend > 0 and self._blended.contains(sigma)

    def report(self, node: str) -> None:
        """Says so in the log where the pictures never shared anything, or kept no queries of their own, although the
        widgets ask for it."""
        s = self.settings
        if s.shares(len(self._members)) and not self._coupled:
            logging.warning(
                "%s had no effect on this run: none of its noise levels lies between start_percent %g and end_percent "
                "%g.",
                node,
                s.window.start_percent,
                s.window.end_percent,
            )
        elif self._coupled and s.query_blend > 0 and not self._has_blended:
            logging.warning(
                "%s: query_blend had no effect on this run: none of its coupled noise levels lies before "
                "query_blend_end %g.",
                node,
                s.query_blend_end,
            )

    def with_references(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The rows of a call: of every set the noisy pictures, then the references at the same level."""
        if self.known is None:
            return x
        kind = self.settings.reference_noise
        if kind == NEVER and self._last is not None and sigma <= self._last[0]:
            level, noisy, denoised = self._last
            return self._together(x, noisy if sigma == level else ddim_step(noisy, denoised, level, sigma))
        if self._there is None:
            self._there = self.known.to(x).repeat(self._sets, 1, 1, 1)
        noise = self._noise(sigma if kind == FRESH else None).to(x)
        return self._together(x, self._noise_scaling(x.new_tensor(sigma), noise, self._there, False))

    def _together(self, generated: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Set by set."""
        return torch.cat([rows.unflatten(0, (self._sets, -1)) for rows in (generated, references)], 1).flatten(0, 1)

    def apart(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of a call as the pictures that are generated and the references: the inverse of `with_references`."""
        sets = rows.unflatten(0, (self._sets, -1))
        return sets[:, : self.count].flatten(0, 1), sets[:, self.count :].flatten(0, 1)

    def note(self, sigma: float, noisy: torch.Tensor, denoised: torch.Tensor, preferred: bool) -> None:
        """Remembers how far references have got that are not replaced: the first to say so at a level, or who is
        preferred."""
        known = self._last is not None and self._last[0] == sigma
        if self.settings.reference_noise == NEVER and len(noisy) and (preferred or not known):
            self._last = (sigma, noisy, denoised)

    def _noise(self, sigma: float | None) -> torch.Tensor:
        assert self.known is not None
        rows = []
        for name in self._noises:
            # The level is part of the seed, so that a sampler which asks twice for one level sees one picture.
            number = Random(f"{name} {sigma}").getrandbits(63)
            rows.append(torch.randn(self.known.shape[1:], generator=torch.Generator().manual_seed(number)))
        return torch.stack(rows)

    def coupling(
        self, node: str, sigma: float, device: torch.device, vanilla: dict[Layer, torch.Tensor] | None
    ) -> Coupling:
        s = self.settings
        self._coupled, self._has_blended = True, self._has_blended or vanilla is not None
        whole = s.token_dropout == 0 and all(m is None or m.shown is None for m in self._members)
        lent = None if whole else _Lent(self._members, s.token_dropout, f"{self._seed} {sigma}", device)
        return Coupling(node, len(self._members), s.strength, lent, vanilla, s.query_blend, self._chunks)


class _Lent:
    """Which tokens of every member the others look at in one call; the same at all layers of one size."""

    def __init__(self, members: Sequence[Member | None], dropout: float, seed: str, device: torch.device):
        self._members, self._dropout, self._seed, self._device = members, dropout, seed, device
        self._known: dict[tuple[int, int], list[torch.Tensor | None]] = {}

    def __call__(self, size: tuple[int, int]) -> Sequence[torch.Tensor | None]:
        if size not in self._known:
            self._known[size] = [self._tokens(i, member, size) for i, member in enumerate(self._members)]
        return self._known[size]

    def _tokens(self, i: int, member: Member | None, size: tuple[int, int]) -> torch.Tensor | None:
        tokens = None if member is None else member.tokens(size)
        if self._dropout > 0:
            tokens = torch.arange(size[0] * size[1]) if tokens is None else tokens
            generator = torch.Generator().manual_seed(Random(f"{self._seed} {i} {size}").getrandbits(63))
            kept = max(1, round(len(tokens) * (1 - self._dropout)))
            tokens = tokens[torch.randperm(len(tokens), generator=generator)[:kept].sort().values]
        return None if tokens is None else tokens.to(self._device, non_blocking=True)
