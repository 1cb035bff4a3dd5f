"""State of one sampling run of a set: its references at every noise level, and the tokens that members share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import torch

from ...kernels.diffusion import ddim_step
from ..features.host_memory import sent
from ..features.looking import Looks
from ..features.positions import SAME, shifts
from ..features.references import Reference
from ..host.blocks import Block, Layer, layers_of
from ..host.families import family_of
from ..host.notices import Notices
from ..host.reached import Reached
from ..host.reference_places import Taken
from ..host.window import ALWAYS, Window, no_effect
from .coupling import Chunks, Coupling
from .format import JointFormat
from .members import Member
from .noises import level_name, noise_names

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

JOINT, TEXT_FIRST, IMAGE_FIRST, TEXT_ONLY = PRESETS = ("joint", "text_first", "image_first", "text_only")
FRESH, FIXED, NEVER = NOISES = ("fresh", "fixed", "never")


@dataclass(frozen=True)
class JointSettings:
    """Settings of the sampling of a set.

    guidance: one of PRESETS.
    image_cfg: the references' guidance scale in presets that separate it from the text's.
    strength, blocks, window: strength, place and time of the coupling.
    reference_noise: FRESH noise on the references at every level (RePaint's rule), FIXED noise, or NEVER replaced:
        after the first level they are denoised with the other pictures.
    token_dropout: share of every picture's tokens that is hidden from the others, drawn anew at every level.
    query_blend: share of the queries that comes from uncoupled pictures, up to `query_blend_end` of sampling.
    format: input format of a nine-channel model, None for four channels.
    positions: of other members, one of `features.positions`; for networks that rotate keys by their positions.
    pictures: pictures per set in a batch, so that several sets share the references; None for the whole batch.
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
    positions: str = SAME

    @property
    def layers(self) -> tuple[Layer, ...]:
        return layers_of(self.blocks)

    def shares(self, members: int) -> bool:
        """True if any step of a set of `members` pictures is coupled."""
        return members > 1 and self.strength > 0 and bool(self.blocks) and not self.window.empty


class JointRun:
    """One sampling run of `sets` sets, each of `count` pictures to generate, then the references."""

    def __init__(
        self,
        model: ModelPatcher,
        *,
        settings: JointSettings,
        references: Sequence[Reference],
        members: Sequence[Member],
        count: int,
        sets: int,
        seed: int,
        looks: Looks | None = None,
        taken: Taken | None = None,
    ):
        """looks: records where a point looks in the calls of this run. taken: places of the host's own references."""
        self._taken = taken or Taken()
        self._looks = looks
        self.settings, self.count, self._sets, self._seed = settings, count, sets, seed
        self.family = family_of(model, "Joint Image Sampler")
        self._members: list[Member | None] = [*([None] * count), *members]
        noises = [f"{seed} {name}" for name in noise_names(references, members)]
        self._noises = [name if i == 0 else f"{name} {i}" for i in range(sets) for name in noises]
        clean = [model.model.process_latent_in(member.samples.float().cpu()) for member in members]
        self.known: torch.Tensor | None = torch.cat(clean) if clean else None
        sampling: Any = model.get_model_object("model_sampling")
        self._noise_scaling = sampling.noise_scaling
        self._window = settings.window.resolve(sampling)
        self._blended = Window(0.0, settings.query_blend_end).resolve(sampling)
        self._chunks = Chunks()
        self._rotations: dict[tuple, torch.Tensor | None] = {}
        self._clean: torch.Tensor | None = None
        self._last: tuple[float, torch.Tensor, torch.Tensor] | None = None
        self._coupled = self._has_blended = False
        self.reached = Reached()

    def couples(self, sigma: float) -> bool:
        """True if pictures are coupled at a noise level."""
        return self.settings.shares(len(self._members)) and self._window.contains(sigma)

    def blends(self, sigma: float) -> bool:
        """True if queries are blended at a noise level."""
        return self.settings.query_blend > 0 and self._blended.contains(sigma)

    def report(self, notices: Notices) -> None:
        """Warns if coupling or query blending was asked for but never took place."""
        self.reached.tell(notices)
        s, window = self.settings, self.settings.window
        if window.start_percent > window.end_percent:
            notices.tell(
                f"no effect on this run, because start_percent {window.start_percent:g} lies after end_percent "
                f"{window.end_percent:g}; swap them."
            )
        elif len(self._members) == 1 and s.shares(2):
            notices.tell(
                "no effect on this run, because a single picture without references has no other to look at; connect "
                "references, or a list of prompts."
            )
        elif s.shares(len(self._members)) and not self._coupled:
            notices.tell(no_effect(s.window))
        elif self._coupled and s.query_blend > 0 and not self._has_blended:
            notices.tell(
                "query_blend had no effect on this run, because none of its coupled noise levels lies before "
                f"query_blend_end {s.query_blend_end:g}; raise query_blend_end."
            )

    def with_references(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The rows of a call: of each set the noisy pictures, then the references noised to the same level.

        The replacement trick (JeDi, arXiv 2407.06187, section 3.3). x: [sets * count, channels, height, width].
        Returns [sets * members, channels, height, width].
        """
        if self.known is None:
            return x
        kind = self.settings.reference_noise
        if kind == NEVER and self._last is not None and sigma <= self._last[0]:
            level, noisy, denoised = self._last
            return self._merged(x, noisy if sigma == level else ddim_step(noisy, denoised, level, sigma))
        if self._clean is None:
            self._clean = sent(self.known, x).repeat(self._sets, *[1] * (self.known.ndim - 1))
        noise = sent(self._noise(sigma if kind == FRESH else None), x)
        return self._merged(x, self._noise_scaling(x.new_full((), sigma), noise, self._clean, False))

    def _merged(self, generated: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Rows of generated pictures and references, set by set; inverse of `split`."""
        return torch.cat([rows.unflatten(0, (self._sets, -1)) for rows in (generated, references)], 1).flatten(0, 1)

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Splits the rows of a call into generated pictures and references."""
        sets = rows.unflatten(0, (self._sets, -1))
        return sets[:, : self.count].flatten(0, 1), sets[:, self.count :].flatten(0, 1)

    def keep(self, sigma: float, noisy: torch.Tensor, denoised: torch.Tensor, preferred: bool) -> None:
        """Stores the references' prediction at a level, from which NEVER takes its next step.

        The first pass at a level is stored, and replaced by a preferred one.
        """
        known = self._last is not None and self._last[0] == sigma
        if self.settings.reference_noise == NEVER and len(noisy) and (preferred or not known):
            self._last = (sigma, noisy, denoised)

    def _noise(self, sigma: float | None) -> torch.Tensor:
        assert self.known is not None
        rows, level = [], None if sigma is None else level_name(sigma)
        for name in self._noises:
            # The level is part of the seed, so that repeated calls at one level see the same picture.
            number = Random(f"{name} {level}").getrandbits(63)
            rows.append(torch.randn(self.known.shape[1:], generator=torch.Generator().manual_seed(number)))
        return torch.stack(rows)

    def coupling(self, node: str, sigma: float, vanilla: dict[Layer, torch.Tensor] | None) -> Coupling:
        """The change of self-attention for one call; vanilla: hidden states of uncoupled pictures by layer."""
        s = self.settings
        self._coupled, self._has_blended = True, self._has_blended or vanilla is not None
        whole = s.token_dropout == 0 and all(m is None or m.shown is None for m in self._members)
        seed = f"{self._seed} {level_name(sigma)}"
        visible = None if whole else _VisibleTokens(self._members, s.token_dropout, seed)
        return Coupling(
            node=node,
            members=len(self._members),
            strength=s.strength,
            visible=visible,
            vanilla=vanilla,
            blend=s.query_blend,
            chunks=self._chunks,
            rotation=self._rotation,
            looks=self._looks,
        )

    def _rotation(self, size: tuple[int, int], device: torch.device) -> torch.Tensor | None:
        """Moves other members' keys at layers of (height, width). All have one place, so their order does not count."""
        if (size, device) not in self._rotations:
            (shift,) = shifts(self.settings.positions, size, [size], centered=self.family.centered, taken=self._taken)
            self._rotations[size, device] = self.family.rotation(shift, device)
        return self._rotations[size, device]


class _VisibleTokens:
    """The tokens of each member that others attend to in one call; the same at all layers of one size."""

    def __init__(self, members: Sequence[Member | None], dropout: float, seed: str):
        self._members, self._dropout, self._seed = members, dropout, seed
        self._known: dict[tuple, list[torch.Tensor | None]] = {}

    def __call__(self, size: tuple[int, int], device: torch.device) -> Sequence[torch.Tensor | None]:
        if (size, device) not in self._known:
            made = [self._tokens(i, member, size) for i, member in enumerate(self._members)]
            self._known[size, device] = [t if t is None else sent(t, device) for t in made]
        return self._known[size, device]

    def _tokens(self, i: int, member: Member | None, size: tuple[int, int]) -> torch.Tensor | None:
        tokens = None if member is None else member.tokens(size)
        if self._dropout > 0:
            tokens = torch.arange(size[0] * size[1]) if tokens is None else tokens
            generator = torch.Generator().manual_seed(Random(f"{self._seed} {i} {size}").getrandbits(63))
            kept = max(1, round(len(tokens) * (1 - self._dropout)))
            tokens = tokens[torch.randperm(len(tokens), generator=generator)[:kept].sort().values]
        return tokens
