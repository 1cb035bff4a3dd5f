"""Checkpoints of random weights: names as real files have them, and files that are read back."""

from __future__ import annotations

import pytest
import torch
from likeness.benchmarks import checkpoints
from safetensors.torch import load_file

NAMES = {
    "sd15": {
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.out.2.bias": (4,),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.post_quant_conv.weight": (4, 4, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
    },
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.middle_block.1.transformer_blocks.9.attn2.to_v.weight": (1280, 2048),
        "first_stage_model.decoder.up.3.block.0.conv1.weight": (512, 512, 3, 3),
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.ln_final.bias": (1280,),
    },
}
OF_LORAS = {
    "sd15": {
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": (16, 1280),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0.lora_up.weight": (320, 16),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha": (),
    },
    "sdxl": {
        "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k.lora_down.weight": (16, 2048),
        "lora_te1_text_model_encoder_layers_11_self_attn_out_proj.lora_up.weight": (768, 16),
        "lora_te2_text_model_encoder_layers_31_self_attn_v_proj.lora_down.weight": (16, 1280),
    },
}
BILLIONS = {"sd15": 1.066, "sdxl": 3.469}


def test_names_of_sd35_are_those_of_real_files():
    """The sizes are not, but for those of the text encoders and the autoencoder."""
    found = checkpoints.shapes("sd35")
    named = {
        "model.diffusion_model.joint_blocks.0.x_block.attn2.ln_q.weight": (64,),
        "model.diffusion_model.joint_blocks.3.context_block.attn.qkv.weight": (768, 256),
        "model.diffusion_model.context_embedder.weight": (256, 4096),
        "model.diffusion_model.pos_embed": (1, 4096, 256),
        "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
        "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight": (768,),
        "text_encoders.clip_g.transformer.text_model.encoder.layers.31.mlp.fc1.weight": (5120, 1280),
    }
    assert {name: tuple(found[name].shape) for name in named} == named
    assert not any("quant_conv" in name for name in found)
    lora = checkpoints.lora_shapes("sd35")
    assert lora["lora_unet_joint_blocks_3_x_block_attn_qkv.lora_up.weight"].shape == (768, 16)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_names_and_shapes_are_those_of_real_files(family):
    found = checkpoints.shapes(family)
    assert {name: tuple(found[name].shape) for name in NAMES[family]} == NAMES[family]
    assert sum(t.numel() for t in found.values()) / 1e9 == pytest.approx(BILLIONS[family], abs=1e-3)
    lora = checkpoints.lora_shapes(family)
    assert {name: tuple(lora[name].shape) for name in OF_LORAS[family]} == OF_LORAS[family]


def test_a_lora_of_the_u_net_has_no_layers_of_other_networks():
    prefix = "model.diffusion_model."
    unet = {key.removeprefix(prefix) for key in checkpoints.shapes("sdxl") if key.startswith(prefix)}
    layers = {name.removesuffix(".weight").replace(".", "_") for name in unet}
    changed = {key.partition(".")[0] for key in checkpoints.lora_shapes("sdxl") if key.startswith("lora_unet_")}
    assert changed and {name.removeprefix("lora_unet_") for name in changed} <= layers


def test_a_file_is_read_back_and_stays(tmp_path):
    meta = checkpoints.META
    state = {
        "a.weight": torch.empty(1100, 1000, dtype=torch.float16, device=meta),
        "norm.weight": torch.empty(5, dtype=torch.float16, device=meta),
        "norm.bias": torch.empty(5, dtype=torch.float16, device=meta),
        "position_ids": torch.arange(7).expand(1, -1),
    }
    path = checkpoints.write(tmp_path / "a.safetensors", state)
    read = load_file(path)
    assert {k: (v.shape, v.dtype) for k, v in read.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
    assert read["a.weight"].float().std().item() == pytest.approx(1000**-0.5, rel=0.01)
    assert len(read["a.weight"].unique(dim=0)) == 1100  # rows do not repeat
    assert read["norm.weight"].eq(1).all() and read["norm.bias"].eq(0).all()
    assert read["position_ids"].tolist() == [list(range(7))]
    before = path.stat().st_mtime_ns
    assert checkpoints.write(path, {}).stat().st_mtime_ns == before
