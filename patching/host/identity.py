"""The identity of a MODEL as the passes of this pack run it: equal identities compute the same, bit for bit.

Whatever outlives a run (features, inversions, files) is kept under the identity of the model that made it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .family import LATENT, Options
from .fingerprint import Fingerprint, silent
from .passes import GUIDANCE_FUNCTIONS
from .run import KEY, RunState
from .same import same

if TYPE_CHECKING:
    import torch
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

_ONCE = "once-"
_WITHOUT_EFFECT = frozenset(
    (
        *GUIDANCE_FUNCTIONS,
        "denoise_mask_function",
        "disable_cfg1_optimization",
        "multigpu_options",
        "transformer_options",
    )
)
"""Model options that a pass without guidance and inpainting does not use, and those that are looked at one by one."""

_OF_ONE_CALL = frozenset(
    ("cond_or_uncond", "uuids", "sigmas", "sample_sigmas", "callbacks", "multigpu_thread_device", KEY, LATENT)
)
"""Options of a model call that differ from call to call, or from device to device."""


@dataclass(frozen=True)
class Identity:
    """name: the key of what is kept. unknown: what has no identity, because another pack's code decides about it.

    With anything unknown the name is new every time, so nothing is found under it again.
    """

    name: str
    unknown: tuple[str, ...] = ()

    @property
    def lasts(self) -> bool:
        """True where a later run of the same model has the same name."""
        return not self.unknown


def lasting(name: str) -> bool:
    """True for the name of an identity that a later run can have again."""
    return not name.startswith(_ONCE)


def identity_of(model: ModelPatcher) -> Identity:
    """The identity of a MODEL without the patches of this pack, which its own passes take off.

    It covers samples of every weight; weight patches, injections, wrappers, callbacks and options; attention and block
    patches; object patches, so the model sampling; precision. Hooks of a prompt count where they act, see `is_plain`.
    """
    fingerprint = Fingerprint(_names_of_modules(model))
    _add_weights(fingerprint, model)
    for part in (_settings(model), model.patches, _patches(model)):
        fingerprint.add(part)
    fingerprint.unknown += _replaced_forwards(model.model)
    unknown = list(fingerprint.unknown)
    others = [other for key, found in model.additional_models.items() if key != "multigpu" for other in found]
    for other in others:
        inner = identity_of(other)
        fingerprint.add(inner.name)
        unknown += inner.unknown
    if unknown:
        return Identity(f"{_ONCE}{uuid.uuid4().hex}", tuple(dict.fromkeys(unknown)))
    return Identity(fingerprint.hexdigest())


def identity_in_run(guider: CFGGuider) -> Identity:
    """The identity of the guider's MODEL, computed once per run. Call it in a patch's `prepare`."""
    model = guider.model_patcher
    state = RunState.of(guider.model_options["transformer_options"])
    return identity_of(model) if state is None else state.recall(("identity", model), lambda: identity_of(model))


def network_options(options: Options, wrappers: dict | None = None) -> Options:
    """The options of a model call, or of a MODEL with its `wrappers`, that act inside the network."""
    found = {name: _acting(value) for name, value in options.items() if name not in _OF_ONE_CALL}
    if wrappers is not None:
        found["wrappers"] = _acting(wrappers)
    return {name: value for name, value in found.items() if not _empty(value)}


def is_plain(model: BaseModel, options: Options, plain: Options) -> bool:
    """True where a model call runs the network as passes of this pack do.

    plain: `network_options` of the MODEL. Hooks of a prompt, and what a guider or a patch around this one adds for a
    part of its calls, make a call different.
    """
    return hooks_of(model) is None and same(network_options(options), plain)


def hooks_of(model: BaseModel) -> Any:
    """The hooks of the prompt that the host has applied for the present model call; None without any."""
    return getattr(getattr(model, "current_patcher", None), "current_hooks", None)


def _acting(value: Any) -> Any:
    """A value without empty containers and without this pack's wrappers."""
    if not isinstance(value, dict):
        return value
    inner = {key: _acting(item) for key, item in value.items() if key != KEY and not silent(item)}
    return {key: item for key, item in inner.items() if not _empty(item)}


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (dict, list)) and not value)


def _names_of_modules(model: ModelPatcher) -> dict[int, str]:
    return {id(module): name for name, module in model.model.named_modules()}


def _add_weights(fingerprint: Fingerprint, model: ModelPatcher) -> None:
    network = model.model.diffusion_model
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        # The host keeps a backup of every weight that it has patched in place.
        kept = model.backup.get(f"diffusion_model.{name}")
        fingerprint.weight(name, tensor if kept is None else kept.weight)


def _settings(model: ModelPatcher) -> list:
    """The precision, latent space and noise levels of a MODEL."""
    base, form = model.model, cast(Any, model.get_model_object("latent_format"))
    sampling: torch.nn.Module = model.get_model_object("model_sampling")
    precision = [str(model.get_model_object("manual_cast_dtype")), str(model.model_dtype()), model.force_cast_weights]
    space = [type(form).__name__, float(form.scale_factor), getattr(form, "shift_factor", 0.0)]
    return [type(base).__name__, precision, space, _sampling(sampling)]


def _sampling(sampling: torch.nn.Module) -> dict:
    # The module itself is one of the network's, and its name would be all that counts.
    plain = {k: v for k, v in vars(sampling).items() if not k.startswith("_")}
    return {"kinds": list(type(sampling).__mro__[:-1]), "buffers": dict(sampling.named_buffers()), "settings": plain}


def _patches(model: ModelPatcher) -> dict:
    """Everything beside the weights that a MODEL's patches bring into a pass of this pack."""
    options = {name: value for name, value in model.model_options.items() if name not in _WITHOUT_EFFECT}
    return {
        "options": options,
        "network": network_options(model.model_options.get("transformer_options", {}), model.wrappers),
        "objects": {name: value for name, value in model.object_patches.items() if name != "model_sampling"},
        "weight_wrappers": model.weight_wrapper_patches,
        "callbacks": model.callbacks,
        "injections": model.injections,
        "attachments": model.attachments,
    }


def _replaced_forwards(base: BaseModel) -> list[str]:
    """Layers whose code or results another pack has replaced on the network itself."""
    found = []
    for name, module in base.named_modules():
        changed = module.__dict__.get("forward")
        # The host's own adapters stand in the model's injections.
        foreign = changed is not None and not type(getattr(changed, "__self__", None)).__module__.startswith("comfy.")
        if foreign or module._forward_hooks or module._forward_pre_hooks:
            found.append(f"a changed forward of {name}")
    return found
