"""Runs of Pick-and-Draw whose time and memory are measured, each beside the run that it is compared to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from comfy_api.latest import io

from ..nodes.uremd_guidance import UREMDGuidance
from ..patching.host.families import family_of, preset
from ..patching.host.family import COARSE, MIDDLE
from ..patching.host.window import ALWAYS, Window
from ..patching.pick_and_draw.build import guide
from ..patching.pick_and_draw.build_template import Sampling, record_template
from ..patching.pick_and_draw.palette import Palette
from ..patching.pick_and_draw.settings import Widgets
from ..patching.pick_and_draw.template import Template
from .layout_and_retouch_runs import inverted_alike, picture
from .networks import Network
from .plain_autograd import PlainGuidance
from .timing import CFG, SAMPLER, SCHEDULER, SEED, Variant, plain

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


def template(network: Network, window: Window = ALWAYS, picture: bool = True) -> Template:
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
        window=window,
        picture=picture,
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

    def variant(name: str, figure: str, made: Widgets) -> Variant:
        return _beside_plain(network, name, figure, lambda: sampled(network, made, known, recorded))

    return [
        variant("both losses, every step", "guided_step_ratio", settings(network, 1.0, 1.0)),
        variant("both losses, every second step", "guided_every_second_ratio", settings(network, 1.0, 1.0, every=2)),
        variant(
            "both losses, maps of all layers, every step",
            "guided_all_maps_step_ratio",
            settings(network, 1.0, 1.0, all_maps=True),
        ),
        variant("appearance loss, every step", "guided_appearance_step_ratio", settings(network, 1.0, 0.0)),
        _beside_plain(network, "template, palette and guided run", "guided_whole_ratio", lambda: whole(network)),
    ]


def sampled(network: Network, made: Widgets, known: Palette, recorded: Template):
    """Runs the personalized model, guided."""
    model = guide(network.personalized, network.clip, known, recorded, made)[0]
    return plain(network, model, network.personalized_positive)


def whole(network: Network, picture: bool = True):
    """Makes a template, with or without its picture, and a new reference's palette, and runs with default windows.

    Layout Template and an inversion have 50 steps by default, so both have as many as the run.
    """
    made = settings(network, 1.0, 1.0, windows=default_windows(), all_maps=True)
    window = ALWAYS if picture else Window(made.layout_start, made.layout_end)
    known = palette(network)
    known = replace(known, references=inverted_alike(network, known.references))
    return sampled(network, made, known, template(network, window, picture))


def shortened_variants(network: Network) -> list[Variant]:
    """The whole method where nobody needs the template's picture."""
    name = "template without its picture, palette and guided run"
    return [_beside_plain(network, name, "guided_whole_maps_alone_ratio", lambda: whole(network, picture=False))]


def autograd_variants(network: Network) -> list[Variant]:
    """Runs guided at every step beside the same losses by plain autograd."""
    model = guided(network, settings(network, 1.0, 1.0))
    plainly = PlainGuidance(network, model)
    return [
        Variant(
            "both losses, to plain autograd",
            "guided_to_autograd_ratio",
            network.personalized,
            lambda: plain(network, model, network.personalized_positive),
            lambda: plainly.sample(network.steps),
        )
    ]


def _beside_plain(network: Network, name: str, figure: str, run: Callable[[], object]) -> Variant:
    model, text = network.personalized, network.personalized_positive
    return Variant(name, figure, model, run, lambda: plain(network, model, text))
