"""The gradient pass of guided diffusion transformers ends with the last block that is read."""

import pytest
import torch
from likeness.patching.host.dit_table import row_of
from likeness.patching.host.families import discover
from likeness.tests.patching.pick_and_draw.guidance_runs import guided
from likeness.tests.patching.pick_and_draw.test_guidance_dits import model_of, palette, run, template

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


class Entered:
    """The numbers of blocks that a run enters, in order, with a gradient and without."""

    def __init__(self):
        self.graded: list[int] = []
        self.plain: list[int] = []

    def watch(self, number: int):
        def before(*_):
            (self.graded if torch.is_grad_enabled() else self.plain).append(number)

        return before


def entered(model, blocks: list[torch.nn.Module], **given) -> Entered:
    """The blocks that a run of one guided step enters."""
    seen = Entered()
    handles = [block.register_forward_pre_hook(seen.watch(i)) for i, block in enumerate(blocks)]
    try:
        run(model, schedule=(0.9, 0.6), **given)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize(("loss", "last"), [("layout", 0), ("layout", 1), ("appearance", 0)])
def test_the_gradient_ends_with_the_last_block_that_is_read(dit, loss, last):
    model = model_of(dit)
    names = [f"{block.kind}{block.number}" for block in discover(model, "Test")]
    stacks = model.model.diffusion_model
    blocks = [block for _, name in row_of(stacks).stacks for block in getattr(stacks, name)]
    assert len(blocks) == len(names) > 1
    name = names[last]
    sources = (None, template(dit)) if loss == "layout" else (palette(dit, blocks=name, map_blocks=name), None)
    patched, log = guided(model, *sources, layout_blocks=name, map_blocks=name)
    seen = entered(patched, blocks, dit=dit)
    assert len(log.entries) == 1 and max(seen.plain) == len(blocks) - 1
    # The backward pass enters them again, since it recomputes their activations.
    assert set(seen.graded) == set(range(last + 1))
