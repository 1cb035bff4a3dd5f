"""Layout-and-Retouch, stage 2 (arXiv 2407.09779, Algorithm 1), as a patch of MODEL: attention swapping and mask blending."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from .bank import HIDDEN, OUTPUT, FeatureBank, Key, weights_of
from .blocks import Block, Layer
from .families import Family
from .references import Reference, References, model_arguments
from .rows import indices
from .run_state import Call, RunState, bare
from .source_rows import SourceRows, alone, together
from .sources import Source
from .subject_mask import MaskRun, SubjectMask
from .swaps import REPLACE, Borrowed, LayoutSwap, ReferenceSwap
from .trajectory import Trajectory
from .window import ALWAYS, Window

NODE = "MultiSourceAttnSwap"
BATCHED, SEQUENTIAL, BANKED = "batched", "sequential", "banked"
FORK, QKV_BOTH, QK_BOTH, QK_SELF, NONE = "fork", "qkv_both", "qk_both", "qk_self", "none"
LAYOUT = "layout"
_SAME_LEVEL = 1 + 1e-5  # some samplers reach a noise level through a logarithm and back
Forward = Callable[[Call], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Retouch:
    """The patch. early_steps: lambda_2, steps that follow the layout; blend_step: lambda_3, the first step whose background is the
    layout's; blocks: where references act; every_block: all of the network's, for the early steps."""

    family: Family
    blocks: tuple[Block, ...]
    every_block: tuple[Block, ...]
    references: References | None
    layout: Trajectory | Reference | None = None
    layout_negative: list | None = None
    mask: SubjectMask | None = None
    mask_blocks: tuple[Block, ...] = ()
    early: str = FORK
    early_steps: int = 10
    blend_step: int = 10
    attention: str = REPLACE
    mode: str = SEQUENTIAL
    strength: float = 1.0
    window: Window = ALWAYS
    node: str = NODE

    def prepare(self, guider, noise: torch.Tensor, latent_image: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """Checks the run before it starts, makes its Sources, and gives back the noise it starts from: the layout's, if it has one."""
        images, _, height, width = noise.shape
        steps = len(sigmas) - 1
        if self.early_steps > steps or (self.mask is not None and self.blend_step >= steps):
            raise ValueError(
                f"{self.node}: expected lambda_2 and lambda_3 within the run's {steps} steps, got {self.early_steps} and "
                f"{self.blend_step}; lower them, or raise the sampler's steps."
            )
        if isinstance(self.layout, Trajectory):
            self._check_trajectory(self.layout, noise, [float(s) for s in sigmas[:-1]])
        if self.mask is not None:
            self.mask.check(images, height, width)
        model = bare(guider.model_patcher)
        levels = [float(s) for s in sigmas[:-1]]
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        run = _Run(self, weights_of(guider.model_patcher), images, tuple(levels))
        if isinstance(self.layout, Trajectory):
            run.layout_source = self.layout
        elif self.layout is not None:
            run.layout_source = self.layout.source(model, levels, self.node)
        late = [s for s in levels if run.late(s)]
        if self.references is not None and late:
            run.sources = [r.source(model, late, self.node) for r in self.references.items]
        state.recall((self, "run"), lambda: run)
        return noise if run.layout_source is None or self.early == NONE else _start(guider, noise, latent_image, sigmas, run.layout_source)

    def _check_trajectory(self, layout: Trajectory, noise: torch.Tensor, levels: list[float]) -> None:
        if not len(layout):
            raise ValueError(f"{self.node}: expected a trajectory with model calls, got an empty one; give the layout's sampler steps.")
        given, wanted = layout.latents[0].shape, noise.shape
        if given[1:] != wanted[1:] or given[0] not in (1, wanted[0]):
            raise ValueError(
                f"{self.node}: expected a trajectory of latents {_size(wanted)}, as the sampler's, got {_size(given)}; "
                "give both samplers one latent."
            )
        missing = [s for s in levels if not layout.has(s)]
        if missing:
            raise ValueError(
                f"{self.node}: expected a trajectory with the sampler's noise levels, got none at sigma {missing[0]:.4f}; "
                "give both samplers the same steps, scheduler and denoise."
            )

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        run: _Run = call.state.recall((self, "run"), _never)
        if run.mask is None and self.mask is not None:
            run.start_mask(call)
        step = self._late if run.late(call.sigma) else self._early
        if run.mask is not None and run.mask.mask.follows and run.blends_after(call.sigma):
            tap = run.mask.tap(self.family, self.mask_blocks)
            return step(run, call, lambda c: tap(c, forward))
        return step(run, call, forward)

    def _early(self, run: _Run, call: Call, forward: Forward) -> torch.Tensor:
        if run.layout_source is None or self.early == NONE:
            return forward(call)
        if self.early == FORK:
            # Where nothing would differ, the layout's own answer is the target's.
            denoised = run.layout_denoised(call)
            chunks = len(call.x) // run.images
            return denoised.to(call.x).expand(run.images, -1, -1, -1).repeat(chunks, 1, 1, 1)
        sources = run.layout_rows(call, _flags(call))
        layers = [layer for block in self.every_block for layer in block.layers]
        joint = together(call, sources) if self.mode == BATCHED else None
        targets = len(call.x)
        values, both = self.early == QKV_BOTH, self.early in (QKV_BOTH, QK_BOTH)
        if joint is not None:
            order = _aligned(call, sources, run.images)
            swap = LayoutSwap(
                targets, values, lambda _, n: _pick(n[targets:], order),
                lambda _, n, text: (_pick(n[targets:], order), _pick(text[targets:], order)), self.strength,
            )  # fmt: skip
            return forward(self._changed(joint, layers, swap, both))[:targets]
        kept: dict[Layer, list[torch.Tensor]] = {}
        texts: dict[Layer, list[torch.Tensor]] = {}
        hidden: dict[Layer, list[torch.Tensor]] = {}

        def note_cross(layer, n, context, value):
            kept.setdefault(layer, []).append(n)
            texts.setdefault(layer, []).append(context)
            return n, context, value

        for part in _calls(call, sources):
            options = self.family.tap_hidden_states(part.options, layers, lambda la, n, _: hidden.setdefault(la, []).append(n))
            options = self.family.change_cross_attention(options, layers, note_cross) if both else options
            forward(replace(part, options=options))
        order = _aligned(call, [s.repeated(run.images) for s in sources], run.images, [len(s.latents) for s in sources])
        rows = {name: {la: _pick(torch.cat(v), order) for la, v in d.items()} for name, d in zip("hkt", (hidden, kept, texts), strict=True)}
        swap = LayoutSwap(
            targets, values, lambda la, _: rows["h"][la], lambda la, *_: (rows["k"][la], rows["t"][la]), self.strength,
        )  # fmt: skip
        return forward(self._changed(call, layers, swap, both))

    def _changed(self, call: Call, layers: list[Layer], swap: LayoutSwap, both: bool) -> Call:
        options = self.family.change_self_attention(call.options, layers, swap)
        if both:
            options = self.family.change_cross_attention(options, layers, swap.cross_inputs)
        return replace(call, options=options)

    def _late(self, run: _Run, call: Call, forward: Forward) -> torch.Tensor:
        layers = [layer for block in self.blocks for layer in block.layers]
        targets, flags = len(call.x), _flags(call)
        blend = run.mask is not None and run.layout_source is not None and run.blends(call.sigma)
        mask_run = run.mask
        chunks = targets // run.images

        def mask(size: tuple[int, int]) -> torch.Tensor:
            assert mask_run is not None
            return mask_run.at(call.sigma, size).expand(run.images, -1, -1).repeat(chunks, 1, 1)

        if self.mode == BATCHED:
            layout_rows = run.layout_rows(call, flags) if blend else []
            reference_rows = run.reference_rows(call)
            sources = [*layout_rows, *reference_rows]
            joint = together(call, sources) if sources else None
            if joint is not None:
                swap = self._joint_swap(run, call, joint, layout_rows, mask if blend else None)
                options = self.family.change_self_attention(joint.options, layers, swap)
                return forward(replace(joint, options=options))[:targets]
        borrowed = run.borrowed(call, forward, layers)
        outputs = run.layout_outputs(call, forward, layers, flags) if blend else None

        def layout(layer: Layer, output: torch.Tensor) -> torch.Tensor:
            assert outputs is not None
            return outputs[layer].to(output)

        swap = ReferenceSwap(targets, borrowed, self.attention, self.strength, layout if blend else None, mask if blend else None)
        return forward(replace(call, options=self.family.change_self_attention(call.options, layers, swap)))

    def _joint_swap(self, run: _Run, call: Call, joint: Call, layout_rows: list[SourceRows], mask) -> ReferenceSwap:
        targets, images = len(call.x), run.images
        chunks = targets // images
        borrowed = []
        for i, reference in enumerate(self.references.items if self.references else ()):
            first = indices(joint.rows, role=_reference(i))[0]
            rows = tuple(first + image for _ in range(chunks) for image in range(images))
            borrowed.append(Borrowed(reference.weight, rows=rows, tokens=run.tokens_on(reference, call.x.device)))
        order = _aligned(call, layout_rows, images) if layout_rows else ()

        def layout(_: Layer, output: torch.Tensor) -> torch.Tensor:
            return _pick(output[targets:], order)

        return ReferenceSwap(targets, tuple(borrowed), self.attention, self.strength, layout if mask else None, mask)


@dataclass(eq=False)
class _Run:
    """What one run of a Retouch remembers; the run's state holds it and forgets it."""

    patch: Retouch
    weights: str
    images: int
    levels: tuple[float, ...]
    layout_source: Source | None = None
    sources: list[Source] = field(default_factory=list)
    mask: MaskRun | None = None
    _arguments: dict = field(default_factory=dict)
    _latest: dict = field(default_factory=dict)
    _tokens: dict = field(default_factory=dict)

    def late(self, sigma: float) -> bool:
        """From lambda_2 on."""
        return self._reached(sigma, self.patch.early_steps)

    def blends(self, sigma: float) -> bool:
        """From lambda_3 on."""
        return self._reached(sigma, self.patch.blend_step)

    def blends_after(self, sigma: float) -> bool:
        """Whether the maps of a call at this level are those of the step before a blended one."""
        return self._reached(sigma, max(0, self.patch.blend_step - 1))

    def _reached(self, sigma: float, step: int) -> bool:
        return step < len(self.levels) and sigma <= self.levels[step] * _SAME_LEVEL

    def start_mask(self, call: Call) -> None:
        assert self.patch.mask is not None
        height, width = call.x.shape[2:]
        self.mask = MaskRun(self.patch.mask, (height, width), call.x.device)

    def layout_denoised(self, call: Call) -> torch.Tensor:
        """What a sampler must be told to walk along the layout's latents."""
        source, sigma = self.layout_source, call.sigma
        if isinstance(source, Trajectory):
            return source.denoised_at(sigma)
        assert source is not None
        following = min((s for s in (*self.levels, 0.0) if s >= sigma / _SAME_LEVEL), default=sigma)
        below = max((s for s in (*self.levels, 0.0) if s < sigma / _SAME_LEVEL), default=0.0)
        here, there = source.at(following), source.at(below)
        return there - below * (here - there) / (sigma - below)

    def layout_rows(self, call: Call, flags: tuple[bool, ...]) -> list[SourceRows]:
        assert self.layout_source is not None
        latents = self.layout_source.at(call.sigma).to(call.x)
        return [SourceRows(LAYOUT, flag, latents, self._arguments_of(call, LAYOUT, flag, latents)) for flag in dict.fromkeys(flags)]

    def reference_rows(self, call: Call) -> list[SourceRows]:
        rows = []
        for i, source in enumerate(self.sources):
            latents = source.at(call.sigma).to(call.x)
            rows.append(SourceRows(_reference(i), True, latents, self._arguments_of(call, _reference(i), True, latents)))
        return rows

    def _arguments_of(self, call: Call, role: str, conditional: bool, latents: torch.Tensor) -> dict:
        key = (role, conditional, call.x.device)
        if key not in self._arguments:
            self._arguments[key] = model_arguments(call.model, self._conditioning(role, conditional), latents)
        return self._arguments[key]

    def _conditioning(self, role: str, conditional: bool) -> list:
        patch = self.patch
        if role == LAYOUT:
            assert patch.layout is not None
            if isinstance(patch.layout, Trajectory):
                return patch.layout.positive if conditional else patch.layout.negative
            return patch.layout.conditioning if conditional or patch.layout_negative is None else patch.layout_negative
        assert patch.references is not None
        return patch.references.items[int(role.removeprefix("reference"))].conditioning

    def tokens_on(self, reference: Reference, device: torch.device):
        """Indices of a reference's masked tokens by layer size, on the device, made once."""

        def tokens(size: tuple[int, int]) -> torch.Tensor | None:
            key = (reference, size, device)
            if key not in self._tokens:
                chosen = reference.tokens(size)
                self._tokens[key] = None if chosen is None else chosen.to(device)
            return self._tokens[key]

        return tokens

    def borrowed(self, call: Call, forward: Forward, layers: list[Layer]) -> tuple[Borrowed, ...]:
        """Every reference's features at this noise level: from its bank, from the call before at the same level, or by a call now."""
        patch = self.patch
        found = []
        for i, reference in enumerate(patch.references.items if patch.references else ()):
            role = _reference(i)
            features = self._known(call, role, True, layers, HIDDEN, reference.bank)
            if features is None:
                (rows,) = [r for r in self.reference_rows(call) if r.role == role]
                features = self._record(call, forward, layers, [rows], HIDDEN, self.tokens_on(reference, call.x.device))[True]
                self._keep(call, role, True, features, HIDDEN, reference.bank)
            found.append(Borrowed(reference.weight, {la: f.to(call.x.device) for la, f in features.items()}))
        return tuple(found)

    def layout_outputs(self, call: Call, forward: Forward, layers: list[Layer], flags: tuple[bool, ...]) -> dict[Layer, torch.Tensor]:
        """The layout's self-attention outputs for the target's rows."""
        patch = self.patch
        layout = patch.layout
        assert layout is not None
        parts: dict[bool, dict[Layer, torch.Tensor]] = {}
        missing = []
        for flag in dict.fromkeys(flags):
            known = self._known(call, LAYOUT, flag, layers, OUTPUT, layout.bank)
            if known is None:
                missing.append(flag)
            else:
                parts[flag] = known
        if missing:
            made = self._record(call, forward, layers, self.layout_rows(call, tuple(missing)), OUTPUT)
            for flag in missing:
                parts[flag] = made[flag]
                self._keep(call, LAYOUT, flag, made[flag], OUTPUT, layout.bank)
        return {layer: torch.cat([parts[flag][layer].to(call.x.device).expand(self.images, -1, -1) for flag in flags]) for layer in layers}

    def _record(self, call: Call, forward: Forward, layers, sources: list[SourceRows], kind: str, tokens=None) -> dict[bool, dict]:
        """Runs rows of one role and reads their features: {conditional: {layer: [images, tokens, channels]}}."""
        made: dict[bool, dict[Layer, torch.Tensor]] = {s.conditional: {} for s in sources}
        family = self.patch.family
        for part in _calls(call, sources):

            def read(layer: Layer, values: torch.Tensor, size: tuple[int, int], part=part) -> None:
                chosen = tokens(size) if tokens else None
                for conditional in made:
                    rows = indices(part.rows, None, conditional)
                    if rows:
                        picked = _pick(values, rows)
                        made[conditional][layer] = picked if chosen is None else picked[:, chosen]

            tap = family.tap_hidden_states if kind == HIDDEN else family.tap_self_attention_output
            forward(replace(part, options=tap(part.options, layers, read)))
        return made

    def _known(self, call: Call, role: str, flag: bool, layers, kind: str, bank: FeatureBank) -> dict[Layer, torch.Tensor] | None:
        latest = self._latest.get((role, flag, call.x.device))
        if latest is not None and latest[0] == call.sigma:
            return latest[1]
        if self.patch.mode != BANKED:
            return None
        for weights in ("", self.weights):
            found = {layer: bank.get(Key(weights, kind, layer, flag), call.sigma) for layer in layers}
            if all(f is not None for f in found.values()):
                return found  # pyright: ignore[reportReturnType] - none of them is None
        return None

    def _keep(self, call: Call, role: str, flag: bool, features: dict[Layer, torch.Tensor], kind: str, bank: FeatureBank) -> None:
        self._latest[role, flag, call.x.device] = (call.sigma, features)
        if self.patch.mode == BANKED:
            for layer, values in features.items():
                bank.put(Key(self.weights, kind, layer, flag), call.sigma, values)


def _never():
    raise RuntimeError(f"{NODE}: expected a run that was prepared, got a model call outside of one; sample with one of ComfyUI's guiders.")


def _reference(i: int) -> str:
    return f"reference{i}"


def _size(shape) -> str:
    return f"{shape[0]} x {shape[1]} x {shape[2]} x {shape[3]}"


def _start(guider, noise: torch.Tensor, latent_image: torch.Tensor, sigmas: torch.Tensor, layout: Source) -> torch.Tensor:
    """The noise from which the host will make the layout's latent at the run's first level."""
    model = guider.model_patcher
    sampling = model.get_model_object("model_sampling")
    first = sigmas[0]
    inside = latent_image
    if torch.count_nonzero(latent_image):
        inside = model.model.process_latent_in(latent_image)
    largest = float(sampling.sigma_max)
    fully = math.isclose(largest, float(first), rel_tol=1e-05) or float(first) > largest
    base = sampling.noise_scaling(first, torch.zeros_like(noise), inside, fully)
    unit = sampling.noise_scaling(first, torch.ones_like(noise), torch.zeros_like(inside), fully)
    wanted = layout.at(float(first)).to(noise).expand_as(noise)
    return (wanted - base) / unit


def _flags(call: Call) -> tuple[bool, ...]:
    """Per chunk of the call, whether it carries the prompt."""
    images = len(call.rows) // len(call.options.get("cond_or_uncond", (0,)))
    return tuple(row.conditional for row in call.rows[::images])


def _calls(call: Call, sources: list[SourceRows]) -> list[Call]:
    """The sources' rows in one call if they can share it, otherwise in one each."""
    joint = alone(call, sources)
    if joint is not None:
        return [joint]
    parts = [alone(call, [source]) for source in sources]
    return [part for part in parts if part is not None]


def _aligned(call: Call, sources: list[SourceRows], images: int, counts: list[int] | None = None) -> tuple[int, ...]:
    """For every target row, the number of the layout's row with the same prompt side and picture.

    counts: rows per source, `images` each by default; a source of one row serves every picture.
    """
    counts = counts or [images] * len(sources)
    starts = {s.conditional: sum(counts[:i]) for i, s in enumerate(sources)}
    widths = {s.conditional: counts[i] for i, s in enumerate(sources)}
    return tuple(starts[row.conditional] + (i % images) % widths[row.conditional] for i, row in enumerate(call.rows))


def _pick(values: torch.Tensor, rows: tuple[int, ...]) -> torch.Tensor:
    first = rows[0]
    if rows == tuple(range(first, first + len(rows))):
        return values[first : first + len(rows)]
    return torch.stack([values[i] for i in rows])
