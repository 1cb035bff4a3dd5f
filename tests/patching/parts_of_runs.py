"""MODELs whose calls show parts of a run: context windows of a batch, and halves of a picture."""

import torch
from comfy_extras.nodes_context_windows import ContextWindowsManualNode


def in_windows(model, length=2):
    """The MODEL in context windows over the batch, as the host's node sets them."""
    return ContextWindowsManualNode.execute(  # pyright: ignore[reportIndexIssue]
        model,
        context_length=length,
        context_overlap=1,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        freenoise=False,
    )[0]


def in_tiles(model, together=False):
    """The MODEL with a wrapper that calls it for the upper and the lower half of every latent.

    together: both halves in one call, whose rows are then half by half.
    """

    def divided(apply, given):
        x, t, c = given["input"], given["timestep"], dict(given["c"])
        halves = x.chunk(2, 2)
        if not together:
            return torch.cat([apply(half, t, **c) for half in halves], 2)
        c["c_crossattn"] = torch.cat([c["c_crossattn"]] * 2)
        return torch.cat(apply(torch.cat(halves), torch.cat([t, t]), **c).chunk(2), 2)

    clone = model.clone()
    clone.set_model_unet_function_wrapper(divided)
    return clone
