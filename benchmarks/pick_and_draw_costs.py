"""Cost of Pick-and-Draw in time and memory, as ratios to plain sampling in the same run."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..nodes.uremd_guidance import UREMDGuidance
from ..patching.host.families import family_of, preset
from ..patching.host.family import COARSE, MIDDLE
from ..patching.host.window import ALWAYS
from ..patching.pick_and_draw.build import guide
from ..patching.pick_and_draw.build_template import Sampling, record_template
from ..patching.pick_and_draw.palette import Palette
from ..patching.pick_and_draw.settings import Widgets
from ..patching.pick_and_draw.template import Template
from .layout_and_retouch_costs import picture
from .memory import peak_bytes
from .networks import Network
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, compare, plain

_Windows = tuple[tuple[float, float], tuple[float, float]]
_ALL_STEPS: _Windows = ((0.0, 1.0), (0.0, 1.0))


def settings(
    network: Network,
    appearance: float,
    layout: float,
    every: int = 1,
    windows: _Windows = _ALL_STEPS,
    step_size: float = 0.05,
    all_maps: bool = False,
) -> Widgets:
    """Settings of both losses, each in its window, on the maps of the decoder's coarse blocks or of all blocks."""
    layout_blocks = "all" if all_maps else " ".join(preset(network.personalized, COARSE, "bench"))
    return Widgets(
        text=network.text,
        word=network.word,
        appearance_weight=appearance,
        appearance_start=windows[0][0],
        appearance_end=windows[0][1],
        layout_weight=layout,
        layout_start=windows[1][0],
        layout_end=windows[1][1],
        layout_blocks=layout_blocks,
        direction="gen_to_ref",
        step="relative",
        step_size=step_size,
        iterations=1,
        every=every,
        threshold=0.3,
    )


def palette(network: Network) -> Palette:
    """Palette of a reference without any cached features."""
    model = network.personalized
    text = network.personalized_positive[0][0]
    return Palette(
        picture(network),
        blocks=preset(model, MIDDLE, "bench"),
        family=family_of(model, "bench").name,
        context=text.shape[-1],
        window=ALWAYS,
    )


def template(network: Network) -> Template:
    sampling = Sampling(seed=SEED, steps=network.steps, cfg=CFG, sampler=SAMPLER, scheduler=SCHEDULER, denoise=1.0)
    made, _ = record_template(
        network.model,
        network.clip,
        text=network.text,
        word=network.word,
        negative=network.negative,
        latent=network.latent,
        sampling=sampling,
        blocks="all",
        window=ALWAYS,
    )
    return made


def default_windows() -> _Windows:
    """Default windows of the node's widgets for appearance and layout."""
    widgets = (widget for widget in UREMDGuidance.define_schema().inputs if isinstance(widget, io.Float.Input))
    of = {widget.id: widget.default for widget in widgets if widget.default is not None}
    return (of["appearance_start"], of["appearance_end"]), (of["layout_start"], of["layout_end"])


def guided(network: Network, made: Widgets):
    """Attaches guidance to the personalized model."""
    return guide(network.personalized, network.clip, palette(network), template(network), made)[0]


def guided_variants(network: Network) -> list[Variant]:
    """Variants guided at every step or every second step, by both losses or one, and the whole method."""
    known, recorded = palette(network), template(network)

    def reference():
        return plain(network, network.personalized, network.personalized_positive)

    def sampled(made: Widgets, of=known, layout=recorded):
        return plain(
            network, guide(network.personalized, network.clip, of, layout, made)[0], network.personalized_positive
        )

    def variant(name: str, figure: str, made: Widgets) -> Variant:
        return Variant(name, figure, network.personalized, lambda: sampled(made), reference)

    return [
        variant("both losses, every step", "guided_step_ratio", settings(network, 1.0, 1.0)),
        variant("both losses, every second step", "guided_every_second_ratio", settings(network, 1.0, 1.0, every=2)),
        variant(
            "both losses, maps of all layers, every step",
            "guided_all_maps_step_ratio",
            settings(network, 1.0, 1.0, all_maps=True),
        ),
        variant("appearance loss, every step", "guided_appearance_step_ratio", settings(network, 1.0, 0.0)),
        Variant(
            "template, palette and guided run",
            "guided_whole_ratio",
            network.personalized,
            lambda: sampled(
                settings(network, 1.0, 1.0, windows=default_windows(), all_maps=True),
                palette(network),
                template(network),
            ),
            reference,
        ),
    ]


def times(network: Network, seconds: float, fewest_rounds: int = 2) -> dict[str, float]:
    """Time ratios of `guided_variants`."""
    return {
        f"{network.prefix}{t.variant.figure}": t.ratio[0]
        for t in compare(guided_variants(network), seconds, fewest_rounds)
    }


def memory(network: Network) -> dict[str, float]:
    """Extra peak memory of guidance as a ratio to a plain run's: without the decoder's finest resolution, and with all
    maps."""
    known, recorded = palette(network), template(network)

    def peak(made: Widgets | None) -> float:
        model = (
            network.personalized
            if made is None
            else guide(network.personalized, network.clip, known, recorded, made)[0]
        )
        plain(network, model, network.personalized_positive, steps=2)  # fills the palette
        with torch.inference_mode():
            return peak_bytes(lambda: plain(network, model, network.personalized_positive, steps=2))

    base = peak(None)
    early, full = peak(settings(network, 1.0, 1.0)), peak(settings(network, 1.0, 1.0, all_maps=True))
    return {
        f"{network.prefix}guided_extra_memory_ratio": (early - base) / base,
        f"{network.prefix}guided_all_maps_extra_memory_ratio": (full - base) / base,
    }
