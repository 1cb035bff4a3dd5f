"""Weights that the host changes before a layer uses them, and other packs' tensors in the graph."""

import inspect
import json

import comfy.cldm.cldm
import comfy.controlnet
import comfy.hooks
import comfy.model_management
import comfy.ops
import comfy.samplers
import pytest
import torch
from likeness.patching.host.frozen_autograd import frozen_autograd
from likeness.patching.host.frozen_layers import frozen_forward
from likeness.tests.patching.host.gradients import (
    CHECKPOINTED,
    error,
    inference_model,
    noisy,
    ordinary,
    ordinary_model,
    ours,
    patcher,
    untouched,
    weights_of,
)
from likeness.tests.patching.tiny_models import _CLASSES, _CONFIGS, _base_model, conditioning

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def patches_of(network, rank=2):
    """A clone with low-rank patches of linear layers and convolutions, and a patch of a norm."""
    generator, patches = torch.Generator().manual_seed(7), {}
    for name, weight in network.named_parameters():
        if name.startswith("input_blocks") and name.endswith("weight") and weight.dim() > 1:
            up = torch.randn(weight.shape[0], rank, generator=generator)
            down = 0.1 * torch.randn(rank, weight[0].numel(), generator=generator)
            patches[f"diffusion_model.{name}"] = ("diff", ((up @ down).view(weight.shape),))
        elif name == "middle_block.0.in_layers.0.bias":
            patches[f"diffusion_model.{name}"] = ("diff", (torch.ones_like(weight),))
    return patches


def patch(model, offloaded):
    model.unpatch_model(unpatch_weights=True)
    model.add_patches(patches_of(model.model.diffusion_model))
    if offloaded:
        model.load(comfy.model_management.get_torch_device(), lowvram_model_memory=1)


@pytest.mark.parametrize(
    ("dtype", "offloaded", "checkpointed"),
    [(torch.float32, False, False), (torch.float32, True, True), (torch.float16, True, False)],
    ids=["loaded", "offloaded", "half offloaded"],
)
def test_patched_weights(dtype, offloaded, checkpointed):
    """A LoRA merged into the weights, and one added on the fly, as the host does if memory is short."""
    model, x = patcher(_base_model("sd1", dtype, 41)), noisy(2)
    network = model.model.diffusion_model
    assert all(p.is_inference() for p in network.parameters())
    plain, twin = ours(model, x), ordinary_model("sd1", dtype)
    patch(model, offloaded)
    with torch.inference_mode(False):
        patch(twin, offloaded)
    assert sum(bool(getattr(m, "weight_function", None)) for m in network.modules()) == (
        len(model.patches) - 1 if offloaded else 0
    )
    found = ours(model, x, loaded=not offloaded, checkpointed=checkpointed)
    expected = ordinary(twin, x, scale=1024.0, loaded=not offloaded)
    assert error(found.latents, expected) < (1e-5 if dtype == torch.float32 else 2e-2)
    assert error(plain.latents, expected) > 0.2


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float16], ids=str)
def test_storage_in_fewer_bits(storage):
    """Weights stored in one type and cast to another for each layer."""
    config = _CLASSES["sd1"](dict(_CONFIGS["sd1"]))
    config.set_inference_dtype(storage, torch.float32)
    base = config.get_model({}, "")
    base.diffusion_model.load_state_dict(inference_model().model.diffusion_model.state_dict())
    assert {p.dtype for p in base.diffusion_model.parameters()} == {storage}
    twin, x = ordinary_model(), noisy(2)
    with torch.inference_mode(False):
        for weight in twin.model.diffusion_model.parameters():
            weight.data.copy_(weight.to(storage))
    assert error(ours(patcher(base), x).latents, ordinary(twin, x)) < 1e-5


def test_fast_layers_of_8_bits():
    """Fast 8-bit layers clamp and round their input in place, which the graph may have saved."""
    layer = comfy.ops.fp8_ops.Linear(16, 16, bias=False, dtype=torch.float8_e4m3fn)
    layer.weight = torch.nn.Parameter(torch.eye(16).to(torch.float8_e4m3fn), requires_grad=False)
    with frozen_autograd(layer):
        x = torch.linspace(0, 7, 16).view(1, 16).requires_grad_()
        saved = x.exp()
        result = layer(saved)
        (found,) = torch.autograd.grad(result, x, torch.ones(1, 16))
    assert result.max() == 448 and saved.max() > 1000
    torch.testing.assert_close(found, x.detach().exp())


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("smoothed", [False, True])
def test_weights_with_scales(smoothed, native):
    """A linear layer of a scaled 8-bit checkpoint, on hardware with and without 8-bit products."""
    if smoothed and "pre_quant_scale" not in inspect.getsource(comfy.ops):
        pytest.skip("this host knows no scale of a layer's input")
    operations = comfy.ops.mixed_precision_ops({}, torch.float32, disabled=set() if native else {"float8_e4m3fn"})
    layer, generator = operations.Linear(32, 16, device="cpu"), torch.Generator().manual_seed(3)
    stored = torch.randn(16, 32, generator=generator).to(torch.float8_e4m3fn)
    kind = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    layer.load_state_dict(
        {"weight": stored, "bias": torch.ones(16), "weight_scale": torch.tensor(0.5), "comfy_quant": kind}
    )
    assert isinstance(layer.weight, comfy.ops.QuantizedTensor)
    matrix = 0.5 * stored.float()
    if smoothed:
        layer.pre_quant_scale = torch.nn.Parameter(torch.rand(32, generator=generator) + 0.5, requires_grad=False)
        matrix = matrix * layer.pre_quant_scale
    with frozen_autograd(layer):
        x, slope = torch.randn(2, 5, 32).requires_grad_(), torch.randn(2, 5, 16)
        result = layer(x)
        (found,) = torch.autograd.grad(result, x, slope)
    assert error(result.detach(), x.detach() @ matrix.T + 1) < (
        0.1 if native else 1e-5
    )  # native: the input is rounded as well
    torch.testing.assert_close(found, slope @ matrix)


def test_scheduled_weights():
    """A LoRA of a single prompt, which the host merges into the weights between model calls."""
    model, x = patcher(_base_model("sd1", torch.float32, 41)), noisy(2)
    network = model.model.diffusion_model
    hooks = comfy.hooks.create_hook_lora({}, 1.0, 0.0)
    model.add_hook_patches(hooks.hooks[0], patches_of(network))
    text = [[c[0], {**c[1], "hooks": hooks}] for c in conditioning(model, seed=10)]
    twin = ordinary_model()
    with torch.inference_mode(False):
        patch(twin, False)
    before = weights_of(network)
    found = ours(model, x, conds=text, checkpointed=True)
    model.clean_hooks()
    assert error(found.latents, ordinary(twin, x)) < 1e-5
    untouched(network, before)


def control_network(normal=False):
    config = {k: v for k, v in _CONFIGS["sd1"].items() if k not in ("out_channels", "transformer_depth_output")}
    with torch.inference_mode(not normal):
        network = comfy.cldm.cldm.ControlNet(
            **config, hint_channels=3, num_heads=4, dtype=torch.float32, operations=comfy.ops.disable_weight_init
        )
        generator = torch.Generator().manual_seed(8)
        for parameter in network.requires_grad_(False).eval().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
        return network


def controlled(model, networks, strength=0.7):
    control = None
    for network in networks:
        previous, control = (
            control,
            comfy.controlnet.ControlNet(network, load_device=comfy.model_management.get_torch_device()),
        )
        control.set_cond_hint(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(9)), strength)
        control.set_previous_controlnet(previous)
    return [
        [c[0], {**c[1], "control": control, "control_apply_to_uncond": False}] for c in conditioning(model, seed=10)
    ]


@pytest.mark.parametrize(("count", "checkpointed"), [(1, False), (2, True)])
def test_control_nets_are_passed_through(count, checkpointed):
    model, x = inference_model(), noisy(2)
    network = control_network()
    before, frozen = weights_of(network), []

    def run(*args):
        frozen.append([type(m) for m in network.modules() if "forward" in m.__dict__])
        return comfy.samplers.calc_cond_batch(*args)

    found = ours(model, x, conds=controlled(model, [network] * count), checkpointed=checkpointed, run=run)
    untouched(network, before)
    assert not found.mutable  # residuals are added to copies
    assert comfy.ops.disable_weight_init.Conv2d in frozen[0]  # with copies of its weights the result would not differ
    with torch.inference_mode(False):
        twin = ordinary_model()
        conds = controlled(twin, [control_network(normal=True)] * count)
    expected = ordinary(twin, x, conds)
    assert error(found.latents, expected) < 1e-5
    assert error(ours(model, x).latents, expected) > 0.1


@CHECKPOINTED
def test_tensors_of_other_patches_join_the_graph(checkpointed):
    """Masks and keys of other packs are inference tensors too."""
    model, twin, x = inference_model(), ordinary_model(), noisy(2)
    mask = torch.rand(1, 1, 32, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode(False):
        same = mask.clone()
    for patched, factor in ((model, mask), (twin, same)):
        patched.set_model_attn1_patch(lambda n, c, v, o, f=factor: (n * f, c, v) if n.shape[-1] == 32 else (n, c, v))
        patched.set_model_attn2_output_patch(lambda n, o, f=factor: torch.stack([n, f.mean().expand_as(n)]).prod(0))
    found, expected = ours(model, x, checkpointed=checkpointed).latents, ordinary(twin, x)
    assert error(found, expected) < 1e-5
    assert error(ours(inference_model(), x).latents, expected) > 0.1


def test_the_host_writes_into_its_own_buffers():
    """Writing into a buffer works, as the host does for offloaded weights, unless it would drop a graph."""
    buffer, layer = torch.zeros(4), torch.nn.Linear(3, 3)
    with frozen_autograd(layer):
        x = torch.ones(4, requires_grad=True)
        buffer[1:3].copy_(torch.ones(2))
        buffer += 1
        torch.add(buffer, buffer, out=buffer)
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
            buffer.mul_(x)
    assert buffer.tolist() == [2, 4, 4, 2] and buffer.is_inference()


def test_layers_that_others_have_changed_are_left_to_them():
    """Layers left alone: another pack's forward, a tiling convolution, weights stored in another way."""
    with torch.inference_mode(False):
        twin = ordinary_model()
    model, x = patcher(_base_model("sd1", torch.float32, 41)), noisy(2)
    for base in (model.model, twin.model):
        network = base.diffusion_model
        linear = network.output_blocks[3][1].transformer_blocks[0].attn1.to_q
        linear.forward = lambda x, forward=linear.forward: 2 * forward(x) + x
        network.input_blocks[0][0].padding_mode = "circular"
    assert frozen_forward(model.model.diffusion_model.input_blocks[0][0]) is None
    assert frozen_forward(torch.nn.Linear(2, 2)) is None
    found, network = ours(model, x).latents, model.model.diffusion_model
    assert error(found, ordinary(twin, x)) < 1e-5
    assert [name for name, m in network.named_modules() if "forward" in m.__dict__] == [
        "output_blocks.3.1.transformer_blocks.0.attn1.to_q"
    ]
