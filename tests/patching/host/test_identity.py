"""Identities of models: what changes a pass gives another one, what does not keeps it."""

import comfy.sd
import pytest
import torch
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from likeness.patching.host.attach import bare
from likeness.patching.host.identity import identity_of, lasting
from likeness.tests.patching.tiny_models import run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora


def name_of(model) -> str:
    identity = identity_of(model)
    assert identity.lasts and lasting(identity.name), identity
    return identity.name


def bypass_lora(model, strength=0.5):
    """A clone with a LoRA beside some of its layers, which changes no weight."""
    weights = [(k, w) for k, w in model.model.state_dict().items() if "attn1.to_k" in k]
    lora = {}
    for key, weight in weights:
        name = key.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        lora[f"lora_unet_{name}.lora_up.weight"] = torch.full((weight.shape[0], 2), 0.2)
        lora[f"lora_unet_{name}.lora_down.weight"] = torch.full((2, weight.shape[1]), 0.2)
    changed, _ = comfy.sd.load_bypass_lora_for_models(model, None, lora, strength, 0)
    assert changed.injections
    return changed


def freeu(model, scale=1.3):
    return FreeU_V2.execute(model, scale, 1.4, 0.9, 0.2)[0]


def sampled(model, kind="v_prediction", zsnr=False):
    return ModelSamplingDiscrete().patch(model, kind, zsnr)[0]


def compute_dtype(model, dtype=torch.bfloat16):
    clone = model.clone()
    clone.set_model_compute_dtype(dtype)
    return clone


def scaled_latents(model, scale=2.0):
    clone = model.clone()
    clone.add_object_patch("latent_format", type(model.model.latent_format)(scale_factor=scale))
    return clone


CHANGES = [
    add_lora,
    lambda model: add_lora(model, 0.25),
    bypass_lora,
    lambda model: bypass_lora(model, 0.6),
    freeu,
    lambda model: freeu(model, 1.2),
    sampled,
    lambda model: sampled(model, zsnr=True),
    compute_dtype,
    scaled_latents,
]


def test_weights_are_told_apart():
    model = tiny_model("sd1")
    assert name_of(model) == name_of(model.clone()) == name_of(bare(model))
    assert len({name_of(model), name_of(tiny_model("sd1", seed=7)), name_of(tiny_model("sd1", torch.float16))}) == 3


def test_weights_that_differ_in_one_attention_matrix_are_told_apart():
    model = tiny_model("sd1", seed=31)
    before = name_of(model)
    matrix = model.model.diffusion_model.output_blocks[5][1].transformer_blocks[0].attn1.to_k.weight
    with torch.no_grad():
        matrix.add_(0.01)
        assert name_of(model) != before
        matrix.sub_(0.01)


def test_changes_of_a_model_are_told_apart_and_recognized():
    model = tiny_model("sd1", seed=33)
    names = [name_of(change(model)) for change in CHANGES]
    assert len({name_of(model), *names}) == 1 + len(CHANGES)
    assert [name_of(change(model)) for change in CHANGES] == names


@pytest.mark.parametrize("change", [add_lora, bypass_lora, freeu, sampled])
def test_loading_and_running_a_model_changes_no_identity(change):
    model = tiny_model("sd1", seed=32)
    tuned = change(model)
    before = [name_of(m) for m in (model, tuned)]
    run_ksampler(tuned, steps=1)
    assert [name_of(m) for m in (model, tuned)] == before
    run_ksampler(model, steps=1)
    assert [name_of(m) for m in (model, tuned, change(model))] == [*before, before[1]]


class Observer:
    likeness_identity = None

    def __call__(self, n, context, value, options):
        return n, context, value


class Scaled(Observer):
    """A patch of another pack that says what it does."""

    def __init__(self, likeness_identity):
        self.likeness_identity = likeness_identity


def patched(model, patch):
    clone = model.clone()
    clone.set_model_attn1_patch(patch)
    return clone


def test_an_object_may_give_its_own_identity():
    model = tiny_model("sd1")
    assert name_of(patched(model, Observer())) == name_of(model)
    assert name_of(patched(model, Scaled(2.0))) == name_of(patched(model, Scaled(2.0)))
    assert len({name_of(model), *(name_of(patched(model, Scaled(s))) for s in (2.0, 3.0))}) == 3


@pytest.mark.parametrize(
    "patch",
    [
        lambda model: patched(model, lambda n, context, value, options: (n, context, value)),
        lambda model: HyperTile.execute(model, 256, 2, 0, False)[0],  # draws its tiles by chance
    ],
)
def test_code_that_cannot_be_compared_never_has_the_same_identity_twice(patch):
    model = patch(tiny_model("sd1"))
    first, second = identity_of(model), identity_of(model)
    assert not first.lasts and not lasting(first.name) and first.name != second.name
    assert all("." in what for what in first.unknown)


def test_a_layer_replaced_on_the_network_itself_has_no_identity():
    model = tiny_model("sd1", seed=34)
    layer = model.model.diffusion_model.output_blocks[5][1].transformer_blocks[0].attn1.to_k
    handle = layer.register_forward_hook(lambda *given: None)
    assert "output_blocks.5" in identity_of(model).unknown[0]
    handle.remove()
    assert identity_of(model).lasts
