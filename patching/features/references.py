"""Reference pictures, from which a run borrows features: each with a prompt, an optional subject mask and a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ...kernels.heatmaps import inside
from ..host.checks import check_latent
from ..host.families import training_resolution
from ..host.identity import Identity
from ..host.notices import Notices
from ..host.run import RunState
from .bank import FeatureBank
from .fitting import alike, fitted_size, latent_size, pixels_per_latent, scaled
from .sources import Inverted, Noised, Source, inversion_levels, invert, noised_source
from .trajectory import Trajectory

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

NODE = "Reference Picture"
INVERTED, NOISED = "inverted", "noised"
TRAINING_SIZE, OWN_SIZE = "training resolution", "own size"
"""Sizes of a reference: the nearest to the model's training pictures, or the picture's."""
INVERSION_STEPS = 50
_LARGE_ERROR = 0.2
_MODELS = 2


@dataclass(frozen=True, eq=False)
class Reference:
    """One picture.

    given: LATENT of one image, at its own resolution; None to encode `image` when it is first needed.
    conditioning: its neutral prompt. kind: INVERTED or NOISED. seed: of the noise of NOISED. mask: [height, width] in
    0..1 over the whole picture, None for all of it. weight: of its tokens' attention, 1 is that of the target's own.
    bank: features that earlier runs read. inversions: those of earlier runs, by the name of the model's `Identity`, at
    most two. image, vae: [1, height, width, 3] and the VAE that encodes it, also at other sizes, which `sizes` caches;
    None where unknown. saved: read from a file. fits: True for a picture that `fitted` may scale. inversion_steps: the
    least number of an inversion's steps.
    """

    given: dict | None
    conditioning: list
    kind: str
    seed: int
    mask: torch.Tensor | None = None
    weight: float = 1.0
    bank: FeatureBank = field(default_factory=FeatureBank)
    inversions: dict[str, Inverted] = field(default_factory=dict)
    image: torch.Tensor | None = None
    vae: VAE | None = None
    sizes: dict[tuple[int, int], Any] = field(default_factory=dict)
    saved: bool = False
    fits: bool = False
    inversion_steps: int = INVERSION_STEPS
    notices: Notices = field(default_factory=lambda: Notices(NODE))
    _own: dict[tuple[int, int], Reference | dict] = field(default_factory=dict)

    @property
    def latent(self) -> dict:
        """The LATENT of the picture at the size that it has here."""
        if self.given is not None:
            return self.given
        assert self.image is not None and self.vae is not None
        found = self._own.get((0, 0))
        if not isinstance(found, dict):
            samples = self.vae.encode(self.image)
            check_latent(samples, self.notices.name)
            found = self._own[0, 0] = {"samples": samples}
        return found

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in latent pixels."""
        if self.given is None and self.image is not None:
            return latent_size(self.image, self.vae)
        height, width = self.latent["samples"].shape[-2:]
        return height, width

    def fitted(self, model: ModelPatcher, node: str) -> Reference:
        """The picture at the size that MODEL was trained on, with features and inversions of its own.

        The reference itself where it has no picture, shall keep its size or has a fitting one.
        """
        if not self.fits or self.image is None:
            return self
        found = self._scaled(fitted_size(*self.size, training_resolution(model, node)))
        return replace(found, given=found.latent)

    def sized(self, height: int, width: int, node: str) -> Reference:
        """The picture as a latent of (height, width).

        Raises ValueError for a picture of another shape, and for a latent without picture.
        """
        if self.size == (height, width):
            return self
        if self.image is None or not alike(self.size, (height, width)):
            raise ValueError(
                f"{node}: expected a layout of the sampler's latent, {width} x {height}, got a picture of "
                f"{self.size[1]} x {self.size[0]} latent pixels; crop the picture to that shape, or give the sampler "
                "a latent of the picture's."
            )
        return self._scaled((height, width))

    def _scaled(self, size: tuple[int, int]) -> Reference:
        if size == self.size:
            return self
        found = self._own.get(size)
        if not isinstance(found, Reference):
            assert self.image is not None
            ratio = pixels_per_latent(self.vae)
            image, mask = scaled(self.image, self.mask, ratio * size[0], ratio * size[1])
            found = self._own[size] = replace(
                self,
                given=None,
                image=image,
                mask=mask,
                fits=False,
                bank=FeatureBank(),
                inversions={},
                sizes={},
                _own={},
            )
        # Caption, weight and seed may have been replaced since.
        return replace(found, conditioning=self.conditioning, weight=self.weight, seed=self.seed, notices=self.notices)

    def source(self, model: ModelPatcher, sigmas: Sequence[float], node: str, identity: Identity) -> Source:
        """The picture at every noise level; an inversion costs one model call per step, the first time.

        sigmas: those of the run. An inversion has at least as many steps, but its own noise levels, so that it serves
        every schedule. identity: of the model.
        """
        if self.kind == NOISED:
            source = noised_source(model, self.latent, self.seed, node)
            return Noised(source.clean.float(), source.noise, source.model_sampling)
        name = identity.name
        steps = max(self.inversion_steps, len({s for s in sigmas if s > 0}))
        known = self.inversions.get(name)
        if known is None or not known.serves(steps, sigmas):
            # Features that belong to the old inversion would only fill the RAM.
            self.forget(name)
            levels = inversion_levels(model, steps)
            known = self.inversions[name] = invert(model, self.conditioning, self.latent, levels, node, steps)
            for stale in list(self.inversions)[:-_MODELS]:
                self.forget(stale)
        if known.error > _LARGE_ERROR:
            self.notices.tell(
                f"the inversion of the picture gives it back with an error of {known.error:.0%}, so its features may "
                "be another picture's; raise inversion_steps, or set source to noised."
            )
        return known

    @property
    def inverted(self) -> bool:
        """True where its latents come from an inversion by the model."""
        return self.kind == INVERTED

    def made_by(self, identity: str) -> bool:
        """True where a model of this identity made something that is kept; also where nothing is kept at all."""
        known = {*self.inversions, *(key.weights for key, _, _ in self.bank.items())}
        return not known or identity in known

    def forget(self, identity: str) -> None:
        """Drops what a model of this identity made."""
        self.bank.forget(identity)
        self.inversions.pop(identity, None)

    def tokens(self, size: tuple[int, int]) -> torch.Tensor | None:
        """Indices of the tokens inside the mask at a layer of (height, width); None for all."""
        return None if self.mask is None else tokens_inside(self.mask, size)


@dataclass(frozen=True, eq=False)
class References:
    """One or more pictures of one subject."""

    items: tuple[Reference, ...]

    def fitted(self, model: ModelPatcher, node: str) -> References:
        """Each picture as `Reference.fitted`."""
        return References(tuple(item.fitted(model, node) for item in self.items))

    def __str__(self) -> str:
        return "\n".join(
            f"{r.kind} reference of {8 * r.size[1]} x {8 * r.size[0]} pixels, "
            f"weight {r.weight:g}, {'masked' if r.mask is not None else 'whole'}; {r.bank.describe()}"
            for r in self.items
        )


def keep_for(kept: Sequence[Reference | Trajectory], identity: Identity, state: RunState, notices: Notices) -> None:
    """Keeps what a run makes of these pictures no longer than a later run could recognize its model.

    It tells the user what is computed again, also where a saved file holds the features of another model.
    """
    if not identity.lasts and kept:
        notices.inform(
            "features and inversions of pictures are computed in every run, since a later run cannot recognize what "
            f"changes model ({', '.join(identity.unknown)}); without that node they are computed once."
        )
        for picture in kept:
            state.at_end(partial(picture.forget, identity.name))
    strange = [p for p in kept if isinstance(p, Reference) and p.saved and not p.made_by(identity.name)]
    if strange and identity.lasts:
        notices.inform(
            "the saved features belong to another model, or to this one with other patches or of an older version of "
            "this pack, so this run computes its own."
        )


def tokens_inside(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Indices of the tokens of a layer of (height, width) that a mask [height, width] holds; all for an empty mask.

    mask: on the CPU. It can be empty where the VAE has cropped the subject.
    """
    held = inside(mask[None], size)[0]
    return (held if held.any() else ~held).nonzero()[:, 0]
