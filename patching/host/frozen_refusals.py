"""Models through which there is no gradient, although each of their layers has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy.patcher_extension import WrappersMP

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def refuse_compiled(model: ModelPatcher, node: str) -> None:
    """Raises ValueError for a MODEL with torch.compile: compiled code ignores the temporary forwards of layers."""
    network = model.get_model_object("diffusion_model")
    compiled = (
        "torch_compile_kwargs" in model.model_options
        or bool(model.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile"))
        or any(hasattr(patch, "_orig_mod") for patch in model.object_patches.values())
        or any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in network.modules())
    )
    if compiled:
        raise ValueError(
            f"{node}: expected a model without torch.compile, got a compiled one, through which there is no gradient; "
            "remove the node that compiles it (such as TorchCompileModel) from model."
        )


def refuse_cached(model: ModelPatcher, node: str) -> None:
    """Raises ValueError for a MODEL with a step cache, which would answer the gradient's pass from the cache."""
    for name, kind in (("EasyCache", WrappersMP.DIFFUSION_MODEL), ("LazyCache", WrappersMP.PREDICT_NOISE)):
        if model.get_wrappers(kind, name.lower()):
            raise ValueError(
                f"{node}: expected a model that runs at every step, got one with {name}; remove that node from model."
            )
