"""Layers of a LoRA that do not fit the model: counted as the host counts them, and told on the node."""

import comfy.sd
import pytest
import torch
from comfy.weight_adapter import LoRAAdapter
from likeness.patching.host.loras import misfits
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.kinds import quantized
from likeness.tests.patching.tiny_models import conditioning, tiny_model

LINEAR, CONV = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight", "diffusion_model.out.2.weight"


def adapter(up: tuple, down: tuple, middle: tuple | None = None, reshaped: list | None = None) -> LoRAAdapter:
    shapes = (up, down, middle)
    up_, down_, middle_ = (None if shape is None else torch.ones(shape) for shape in shapes)
    return LoRAAdapter(set(), (up_, down_, None, middle_, None, reshaped))


def left_out(model, key: str, lora: LoRAAdapter, part) -> bool:
    """True where the host's own merging leaves the weight as it is."""
    weight = torch.zeros(model.model.state_dict()[key].shape)
    target = weight if part is None else weight.narrow(*part)
    merged = lora.calculate_weight(target, key, 1.0, 1.0, part, lambda a: a)
    return not merged.any()


def shapes_of(key: str) -> tuple[int, ...]:
    return tuple(tiny_model().model.state_dict()[key].shape)


OUT, IN = shapes_of(LINEAR)
FILTERS, CHANNELS, *_ = shapes_of(CONV)


@pytest.mark.parametrize(
    ("key", "lora", "part"),
    [
        (LINEAR, adapter((OUT, 4), (4, IN)), None),
        (LINEAR, adapter((OUT, 4), (4, IN + 8)), None),
        (LINEAR, adapter((2 * OUT, 4), (4, IN)), None),
        (LINEAR, adapter((OUT // 2, 4), (4, IN)), (0, OUT // 2, OUT // 2)),
        (LINEAR, adapter((OUT, 4), (4, IN)), (0, 0, OUT // 2)),
        (CONV, adapter((FILTERS, 4, 1, 1), (4, CHANNELS, 3, 3)), None),
        (CONV, adapter((FILTERS, 4, 1, 1), (4, CHANNELS, 1, 1)), None),
        (CONV, adapter((FILTERS, 4), (4, CHANNELS), (4, 4, 3, 3)), None),
        (CONV, adapter((FILTERS, 4), (4, 2 * CHANNELS), (4, 4, 3, 3)), None),
        (LINEAR, adapter((OUT + 2, 4), (4, IN), reshaped=[OUT + 2, IN]), None),
    ],
)
def test_layers_that_the_host_leaves_out_are_counted(key, lora, part):
    model = tiny_model()
    model.patches[key] = [(1.0, lora, 1.0, part, None)]
    assert misfits(model) == (int(left_out(model, key, lora, part)), 1)


def test_packed_weights_are_left_out():
    """NF4 loaders give them the shape of the package."""
    model = quantized()
    model.patches[LINEAR] = [(1.0, adapter((OUT, 4), (4, IN + 8)), 1.0, None, None)]
    assert misfits(model) == (0, 0)


def behind(layers: dict[str, tuple]):
    """A model behind a LoRA whose layers have these sizes, from the host's own loader."""
    given = {}
    for key, (rows, columns) in layers.items():
        name = f"lora_unet_{key.removeprefix('diffusion_model.').removesuffix('.weight').replace('.', '_')}"
        given |= {f"{name}.lora_up.weight": torch.ones(rows, 2), f"{name}.lora_down.weight": torch.ones(2, columns)}
    return comfy.sd.load_lora_for_models(tiny_model(), None, given, 1.0, 1.0)[0]


def test_a_lora_of_another_family_with_layers_of_the_same_names_is_told():
    key = LINEAR.replace("to_q", "to_k")
    vanilla = tiny_model()
    for columns, expected in (
        (IN, ()),
        (IN + 8, ("Warning: 1 of the 2 layers of the LoRA behind personalized_model",)),
    ):
        guider = StepBlendedGuider(vanilla, behind({LINEAR: (OUT, IN), key: (OUT, columns)}), Switch(percent=0.5))
        guider.set_blended_conds(*(conditioning(vanilla, seed=seed) for seed in (1, 2, 3)))
        assert len(guider.notices.sentences) == len(expected)
        assert all(map(str.startswith, guider.notices.sentences, expected))
