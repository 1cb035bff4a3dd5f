"""Files of transformers for rehearsals: what the host detects in them, and that no weight is missing."""

from __future__ import annotations

import comfy.model_detection
import comfy.sd
import pytest
from likeness.benchmarks import rehearsal_prompts, transformer_files
from likeness.benchmarks.transformer_files import FAMILIES, FLUX1, KLEIN, KREA2, QWEN_IMAGE, Z_IMAGE
from likeness.patching.host.dit_table import row_of

NAMES = {
    Z_IMAGE: ("layers.1.attention.qkv.weight", "context_refiner.1.attention.q_norm.weight", "cap_pad_token"),
    KREA2: ("blocks.1.attn.wq.weight", "txtfusion.projector.weight", "first.weight"),
    QWEN_IMAGE: ("transformer_blocks.1.attn.add_q_proj.weight", "txt_norm.weight", "time_text_embed.timestep_embedder"),
    KLEIN: ("double_blocks.0.img_attn.norm.key_norm.scale", "double_stream_modulation_img.lin.weight"),
    FLUX1: (
        "double_blocks.0.img_attn.norm.query_norm.scale",
        "guidance_in.in_layer.weight",
        "vector_in.in_layer.weight",
    ),
}
DEPTHS = {Z_IMAGE: 2, KREA2: 2, QWEN_IMAGE: 2, KLEIN: 3, FLUX1: 3}
BILLIONS = {Z_IMAGE: 1.2, KREA2: 0.12, QWEN_IMAGE: 0.8, KLEIN: 0.8, FLUX1: 0.9}
"""Weights of a network at most."""
TEXTS = {Z_IMAGE: 0.23, KREA2: 1.29, QWEN_IMAGE: 7.2, KLEIN: 0.23, FLUX1: 4.7}
"""Size of the text encoders in GiB."""


@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_detects_the_family_and_its_depth(family):
    if family == KREA2:
        pytest.importorskip("comfy.ldm.krea2.model", reason="this host has no Krea 2")
    state = FAMILIES[family].network.shapes()
    assert all(any(key.startswith(name) for key in state) for name in NAMES[family])
    config = comfy.model_detection.model_config_from_unet(dict(state), "")
    assert config is not None
    config.set_inference_dtype(next(iter(state.values())).dtype, None)
    network = config.get_model(state, "", device=transformer_files.META).diffusion_model
    row = row_of(network)
    assert row is not None and sum(len(getattr(network, name)) for _, name in row.stacks) == DEPTHS[family]
    made = network.state_dict()
    assert config.process_unet_state_dict(dict(state)).keys() == made.keys(), "no weight is missing, none is left over"
    assert sum(value.numel() for value in made.values()) / 1e9 < BILLIONS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_that_a_workflow_loads_is_there(family):
    if family == KREA2:
        pytest.importorskip("comfy.ldm.krea2.model", reason="this host has no Krea 2")
    found = rehearsal_prompts.workflows(family)
    assert len(found) == 3
    files = {file.name: file for file in FAMILIES[family].files}
    for prompt in found.values():
        asked = {
            value
            for node in prompt.values()
            for name, value in node["inputs"].items()
            if isinstance(value, str) and value.endswith(".safetensors")
        }
        assert asked <= files.keys(), asked - files.keys()
    texts = [file.shapes() for file in files.values() if file.folder == "text_encoders"]
    size = sum(t.numel() * t.dtype.itemsize for state in texts for t in state.values()) / 2**30
    assert size == pytest.approx(TEXTS[family], rel=0.03)
    lora = next(file for file in files.values() if file.folder == "loras").shapes()
    known = {f"diffusion_model.{key.removesuffix('.weight')}" for key in FAMILIES[family].network.shapes()}
    assert lora and {name.rpartition(".lora_")[0] for name in lora} <= known


@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_is_shortened_for_a_cpu(family):
    for name, prompt in rehearsal_prompts.workflows(family).items():
        short = rehearsal_prompts.shortened(prompt, family)
        sides = [v for node in short.values() for k, v in node["inputs"].items() if k in ("width", "height")]
        assert sides and set(sides) == {128}, name


def test_the_autoencoders_are_those_of_the_families():
    channels = {"ae.safetensors": 16, "flux2-vae.safetensors": 32, "qwen_image_vae.safetensors": 16}
    for family in FAMILIES.values():
        vae = next(file for file in family.files if file.folder == "vae")
        state = vae.shapes()
        first = "decoder.conv1.weight" if vae.name.startswith("qwen") else "decoder.conv_in.weight"
        assert state[first].shape[1] == channels.pop(vae.name, state[first].shape[1])
        assert ("bn.running_var" in state) == vae.name.startswith("flux2")
    assert not channels
