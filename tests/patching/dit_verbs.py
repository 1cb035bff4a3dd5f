"""Methods of the pack on tiny diffusion transformers, each as one run from the same noise, of an odd size.

A method takes a MODEL, its family and an amount: 1 acts, 0 is the neutral value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from likeness.patching.features.correspondences import correspondences
from likeness.patching.features.layer_probe import probe
from likeness.patching.features.looking import Point
from likeness.patching.features.positions import BESIDE, INDEX, SAME
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host import passes
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import ALWAYS, Window
from likeness.patching.jedi.build import joint_guider
from likeness.patching.jedi.guider import JointGuider
from likeness.patching.jedi.sampling import sample_set
from likeness.patching.layout_and_retouch.settings import APPEND, QKV_BOTH, REPLACE
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.host import text_encoders
from likeness.tests.patching.jedi.joint_runs import WIDGETS
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import reference, retouched
from likeness.tests.patching.layout_and_retouch.retouch_runs import mask
from likeness.tests.patching.pick_and_draw.guidance_runs import PROMPT, SEED, encoded, guided
from likeness.tests.patching.pick_and_draw.test_guidance_dits import palette, template

HEIGHT, WIDTH = 7, 9
STEPS = 2
TEXT, OTHER, NEGATIVE = (tiny_dits.conditioning(seed=seed) for seed in (10, 13, 11))
SCHEDULE = {"steps": 1, "sampler": "euler", "scheduler": "simple", "denoise": 1.0, "node": "Node"}


def far(found: torch.Tensor, other: torch.Tensor) -> bool:
    """True for a relative difference that counts as an effect."""
    return float((found - other).norm()) > 1e-4 * float(other.norm())


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3 * float(expected.abs().max()))


def network(dit: str):
    """A MODEL whose weights are made in inference mode, as those of guided runs."""
    return tiny_dits.tiny_dit(dit, SEED)


def empty(dit: str, rows: int = 1) -> dict:
    return {"samples": torch.zeros_like(tiny_dits.latent(dit, rows, HEIGHT, WIDTH)["samples"])}


def plain(
    model, dit: str, rows: int = 1, positive: list = TEXT, negative: list = NEGATIVE, steps: int = STEPS
) -> torch.Tensor:
    """KSampler's pictures."""
    return tiny_dits.run_ksampler(model, dit, positive, negative, empty(dit, rows), steps=steps)


brief = functools.partial(plain, steps=1)
"""KSampler's pictures in one step."""


def in_turn(model, dit: str, amount: float = 1.0, positive: list = TEXT, rows: int = 1):
    """Pictures and trajectory of a run of two models, which records all blocks."""
    guider = StepBlendedGuider(tiny_dits.tiny_dit(dit, SEED + 1), model, Switch(steps=round(amount)), "Node", "all")
    guider.set_blended_conds(OTHER, positive, NEGATIVE)
    guider.set_cfg(4.0)
    made = passes.sample(guider, empty(dit, rows), 3, **SCHEDULE | {"steps": STEPS})
    return made["samples"], guider.trajectory


def two_models(model, dit: str, amount: float = 1.0, **given) -> torch.Tensor:
    return in_turn(model, dit, amount, **given)[0]


def borrowed(attention: str, **settings) -> Callable[..., torch.Tensor]:
    def run(model, dit: str, amount: float = 1.0, **given) -> torch.Tensor:
        return brief(retouched(model, [reference(dit)], attention=attention, strength=amount, **settings), dit, **given)

    return run


def layout_and_mask(model, dit: str, amount: float = 1.0, **given) -> torch.Tensor:
    """The layout of another prompt, its early attention, and its background under a mask that follows a word."""
    path = in_turn(network(dit), dit, 0.0, OTHER)[1]
    shown = mask(HEIGHT, WIDTH, tokens=(1, 3), prompt_length=7, blocks="all")
    return plain(retouched(model, [reference(dit)], path, shown, early_swap=QKV_BOTH, strength=amount), dit, **given)


def guider_of_set(
    model, amount: float = 1.0, texts: Sequence[list] = (TEXT, OTHER), pictures: int | None = None, **widgets
) -> JointGuider:
    return joint_guider(
        model,
        prompts=texts,
        negative=NEGATIVE,
        references=[],
        captions=[],
        widgets=replace(WIDGETS, strength=amount, **widgets),
        node="Node",
        pictures=pictures,
    )


def together(model, dit: str, amount: float = 1.0, rows: int = 1, **given) -> torch.Tensor:
    """As many sets of two pictures."""
    guider = guider_of_set(model, amount, pictures=2, **given)
    if rows == 1:
        return sample_set(guider, empty(dit), pictures=2, seeds=[3, 4], **SCHEDULE)["samples"]
    return passes.sample(guider, empty(dit, 2 * rows), list(range(3, 3 + 2 * rows)), **SCHEDULE)["samples"]


def apart_from_each_other(model, dit: str) -> torch.Tensor:
    return together(model, dit, blocks="")


def with_guidance(model, dit: str, amount: float = 1.0, **given) -> torch.Tensor:
    patched, _ = guided(model, palette(dit), template(dit, HEIGHT, WIDTH), step_size=0.05 * amount)
    return unguided(patched, dit, **given)


def unguided(model, dit: str, positive: list | None = None, **given) -> torch.Tensor:
    return plain(model, dit, positive=positive or encoded(PROMPT), negative=encoded(""), **given)


def maps(model, dit: str) -> torch.Tensor:
    picture = tiny_dits.latent(dit, 1, HEIGHT, WIDTH)
    given = {"blocks": "all", "group_by": "together", "window": ALWAYS, "levels": 1, "seed": 0, "node": "Node"}
    clip = text_encoders.clip_of(dit)
    return word_maps(model, clip, picture, text="a photo of a red cat", word="red cat", **given).heatmaps


def probed(model, dit: str) -> torch.Tensor:
    """The changes by content, of all blocks."""
    given = {"blocks": "all", "share": 0.5, "window": Window(0.4, 0.6), "levels": 1, "seed": 0}
    picture = tiny_dits.latent(dit, 1, HEIGHT, WIDTH)
    found = probe(model, TEXT, picture, notices=Notices("Node"), node="Node", **given)
    return torch.tensor(found.of_content)


def looks(model, dit: str) -> torch.Tensor:
    """Where a point of the first picture of a set looks, in all blocks together."""
    pictures = tiny_dits.latent(dit, 2, HEIGHT, WIDTH)
    given = {"blocks": "all", "group_by": "together", "window": ALWAYS, "levels": 1, "seed": 0}
    return correspondences(guider_of_set(model), pictures, point=Point(0, 0.3, 0.8), **given).heatmaps


def positions(model, dit: str) -> tuple[torch.Tensor, ...]:
    return tuple(borrowed(APPEND, positions=where)(model, dit) for where in (SAME, BESIDE, INDEX))


PICTURES: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "two models": (two_models, plain),
    "references appended": (borrowed(APPEND), brief),
    "references replacing": (borrowed(REPLACE), brief),
    "layout and mask": (layout_and_mask, plain),
    "sets": (together, apart_from_each_other),
    "guidance": (with_guidance, unguided),
}
"""Methods that draw pictures, each with the run that its neutral value equals."""
READINGS = {"maps of words": maps, "Layer Probe": probed, "Where a Point Looks": looks}
"""Methods that read a picture."""
SHARING = ("references appended", "references replacing", "layout and mask", "sets")
"""Those in which a picture's queries get other keys."""
LENGTHENING = ("references appended", "sets")
"""Those in which they get more keys."""
PROMPTED = ("references appended", "references replacing", "guidance")
"""Those that take another prompt."""


class Warmer:
    """Another pack's override, which softens all attention. Some networks normalize outputs, so factors hide.

    calls: by block, the numbers of queries and keys of its calls. graded: True if one of them was to have a gradient.
    """

    def __init__(self):
        self.calls: dict[tuple, set[tuple[int, int]]] = {}
        self.graded = False

    def on(self, model):
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = self
        return clone

    def __call__(self, func, q, k, *args, **kwargs):
        options, place = kwargs["transformer_options"], 2 if kwargs.get("skip_reshape") else 1
        block = (options.get("block_type"), options.get("block_index"))
        self.calls.setdefault(block, set()).add((q.shape[place], k.shape[place]))
        self.graded = self.graded or q.requires_grad or k.requires_grad
        return func(0.5 * q, k, *args, **kwargs)

    def keys(self, queries: int) -> list[set[int]]:
        """The numbers of keys that so many queries had, for each block with a number."""
        return [
            {k for q, k in calls if q == queries} for (_, number), calls in self.calls.items() if number is not None
        ]
