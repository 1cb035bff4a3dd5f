"""Attaches a patch to a MODEL: the wrappers through which the host calls it, and the lifetime of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP

from .failures import leaving_nothing, without_circles
from .family import LATENT, Options
from .notices import Notices
from .predictions import Answering, Prediction
from .reached import note_reached
from .rows import Row, conditional_chunks, rows_of_call
from .run import KEY, Call, Demanding, Guidance, Patch, Prepared, RunInputs, RunState, Step, Telling, sampler_name
from .shown import Shown, shown_areas, shown_images
from .window import SigmaWindow

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider


def attach(model: ModelPatcher, patch: Patch) -> ModelPatcher:
    """A clone of MODEL whose model calls go through `patch` inside its window.

    Patches nest: the first one attached is outermost.
    """
    clone = _living(model, patch)
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _PatchedCalls(patch))
    return clone


def attach_guidance(model: ModelPatcher, guidance: Guidance) -> ModelPatcher:
    """A clone of MODEL whose evaluations of a whole step, all conditionings at once, go through `guidance`."""
    clone = _living(model, guidance)
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, _GuidedSteps(guidance))
    return clone


def patches_of(model: ModelPatcher) -> tuple[Patch, ...]:
    """The patches that `attach` has put on a MODEL, the outermost one first."""
    wrappers = model.get_wrappers(WrappersMP.APPLY_MODEL, KEY)
    return tuple(wrapper.patch for wrapper in wrappers if isinstance(wrapper, _PatchedCalls))


def _living(model: ModelPatcher, patch: Patch | Guidance) -> ModelPatcher:
    """A clone of MODEL with the wrappers that every patch needs: a RunState, preparation, memory."""
    clone = model.clone()
    if not clone.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _live)
    if isinstance(patch, Telling):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _Start(patch.notices))
    if isinstance(patch, Prepared):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _Preparation(patch))
    if isinstance(patch, Answering):
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, _AnsweredPredictions(patch))
    if isinstance(patch, Demanding) and patch.batches > 1:
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _MemoryForBatches(patch.batches))
    return clone


def bare(model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL without this pack's patches, for passes that must not be changed by them."""
    clone = model.clone()
    for kind in (
        WrappersMP.OUTER_SAMPLE,
        WrappersMP.PREPARE_SAMPLING,
        WrappersMP.CALC_COND_BATCH,
        WrappersMP.APPLY_MODEL,
        WrappersMP.PREDICT_NOISE,
    ):
        clone.remove_wrappers_with_key(kind, KEY)
    return clone


@contextlib.contextmanager
def run_scope(guider: CFGGuider, sigmas: torch.Tensor) -> Iterator[RunState]:
    """Keeps a RunState in the guider's model options during one run; a nested scope yields the outer state."""
    options = guider.model_options
    state = RunState.of(options["transformer_options"])
    if state is not None:
        yield state
        return
    state = RunState(guider, sigmas)
    guider.model_options = comfy.model_patcher.create_model_options_clone(options)
    guider.model_options["transformer_options"][KEY] = state
    try:
        with leaving_nothing():
            yield state
            state.report()
    finally:
        guider.model_options = options
        state.close()


def _live(
    executor,
    noise,
    latent_image,
    sampler,
    sigmas,
    denoise_mask=None,
    callback=None,
    disable_pbar=False,
    seed=None,
    **kwargs,
):
    with run_scope(executor.class_obj, sigmas) as state:
        state.sampler, state.shape = sampler_name(sampler), tuple(noise.shape)
        state.inputs = RunInputs(latent_image, denoise_mask, seed or 0)
        with without_circles(state.sampler):
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


@dataclass(frozen=True, eq=False)
class _Start:
    """OUTER_SAMPLE wrapper: removes what an earlier run has told."""

    notices: Notices

    def __call__(self, executor, *args, **kwargs):
        self.notices.start()
        return executor(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class _Preparation:
    """OUTER_SAMPLE wrapper: lets a patch prepare the run and its starting noise."""

    patch: Prepared

    def __call__(
        self,
        executor,
        noise,
        latent_image,
        sampler,
        sigmas,
        denoise_mask=None,
        callback=None,
        disable_pbar=False,
        seed=None,
        **kwargs,
    ):
        guider = executor.class_obj
        if not self.patch.window.empty:
            noise = self.patch.prepare(guider, noise, latent_image, sigmas, denoise_mask)
            state = RunState.of(guider.model_options["transformer_options"])
            seed = seed if state is None or state.seed is None else state.seed
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


@dataclass(frozen=True, eq=False)
class _AnsweredPredictions:
    """PREDICT_NOISE wrapper: lets a patch answer the sampler."""

    patch: Answering

    def __call__(self, executor, x, timestep, model_options={}, seed=None):
        guider = executor.class_obj
        state = RunState.of(guider.model_options["transformer_options"])
        if state is None:
            return executor(x, timestep, model_options, seed)
        prediction = Prediction(
            state=state, guider=guider, x=x, t=timestep, sigma=float(timestep.max()), options=model_options
        )
        return self.patch.answer(prediction, lambda p: executor(p.x, p.t, p.options, seed))


@dataclass(frozen=True, eq=False)
class _MemoryForBatches:
    """PREPARE_SAMPLING wrapper: multiplies the batch in the host's memory estimate."""

    batches: int

    def __call__(self, executor, model, noise_shape, *args, **kwargs):
        return executor(model, [noise_shape[0] * self.batches, *noise_shape[1:]], *args, **kwargs)


@dataclass(frozen=True, eq=False)
class _PatchedCalls:
    """APPLY_MODEL wrapper: routes model calls inside the window through a patch."""

    patch: Patch

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        arguments = {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control, **kwargs}
        patch, state = self.patch, RunState.of(transformer_options)
        if state is None:
            raise RuntimeError(_outside(patch.node))
        sigma = float(t[0])
        if not _acts(patch, sigma, state, executor.class_obj):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        shown = _shown(state, transformer_options, x, len(transformer_options.get("cond_or_uncond", (0,))))
        rows = _rows(patch.node, state, transformer_options, len(x), images=shown.images)
        if shown.count > shown.batch and len({row.conditional for row in rows}) > 1:
            # Rows of a part with and without the prompt may alternate in any way.
            raise ValueError(shown.refusal(patch.node, ", or let it call the model for one part at a time"))
        call = Call(
            state=state,
            x=x,
            t=t,
            sigma=sigma,
            rows=rows,
            options=transformer_options,
            arguments=arguments,
            model=executor.class_obj,
            shown=shown,
        )
        return patch(call, partial(_run, executor, patch, transformer_options))


def _run(executor, patch: Patch, before: Options, call: Call) -> torch.Tensor:
    """Runs a call by position, as the host calls its wrappers: those of other packs may count on it.

    before: the options that the patch has got.
    """
    rest = dict(call.arguments)
    first = [rest.pop(name, None) for name in ("c_concat", "c_crossattn", "control")]
    made = executor(call.x, call.t, *first, {**call.options, LATENT: tuple(call.x.shape)}, **rest)
    note_reached(call.state, patch, before, call.options)
    return made


@dataclass(frozen=True, eq=False)
class _GuidedSteps:
    """CALC_COND_BATCH wrapper: routes evaluations of a step through a guidance."""

    guidance: Guidance

    def __call__(self, executor, model, conds, x_in, timestep, model_options):
        guidance, state = self.guidance, RunState.of(model_options["transformer_options"])
        if state is None:
            raise RuntimeError(_outside(guidance.node))
        step = Step(
            state=state,
            model=model,
            conditions=conds,
            x=x_in,
            t=timestep,
            sigma=float(timestep[0]),
            options=model_options,
            shown=_shown(state, model_options["transformer_options"], x_in, 1),
        )
        return guidance(step, lambda s: executor(s.model, s.conditions, s.x, s.t, s.options))


def _acts(patch: Patch, sigma: float, state: RunState, model: BaseModel) -> bool:
    """True if a patch's window contains a noise level; the run's report counts it."""
    resolved: SigmaWindow = state.recall((patch, "window"), lambda: patch.window.resolve(model.model_sampling))
    active = resolved.contains(sigma)
    state.note(patch, active)
    return active


def _outside(node: str) -> str:
    return (
        f"{node}: expected to run inside a sampler, got a model call outside of any sampling run; "
        "sample with a node that uses ComfyUI's guiders, such as KSampler or SamplerCustomAdvanced."
    )


def _rows(node: str, state: RunState, options: Options, count: int, images: tuple[int, ...] | None) -> tuple[Row, ...]:
    chunks = options.get("cond_or_uncond", (0,))
    if count % len(chunks):
        raise ValueError(
            f"{node}: expected the same number of latents with and without the prompt, got {count} for {len(chunks)} "
            "prompts; remove the node that rearranges model calls from model."
        )
    conditional = conditional_chunks(chunks, options.get("uuids", ()), state.owners())
    return rows_of_call(conditional, count // len(chunks), images=images)


def _shown(state: RunState, options: Options, x: torch.Tensor, chunks: int) -> Shown:
    """The part of the run in latents of `chunks` prompts, [rows, channels, height, width]."""
    count, seen, uuids = len(x) // chunks, (x.shape[-2], x.shape[-1]), options.get("uuids", ())
    if not state.shape or (uuids and not any(uuids)):
        # Another patch's own call, with pictures of its own.
        return Shown(count, seen, count, seen, tuple(range(count)), areas=shown_areas([None] * chunks, seen, seen))
    batch, size = state.shape[0], (state.shape[-2], state.shape[-1])
    entries = [state.entry(uuid) for uuid in uuids] if len(uuids) == chunks else [None] * chunks
    images = shown_images(options, count, batch)
    return Shown(batch, size, count, seen, images, areas=shown_areas(entries, seen, size))
