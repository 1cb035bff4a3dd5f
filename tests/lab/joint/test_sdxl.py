"""Training of a joint model from an SDXL checkpoint: a file of its layout with small networks."""

from __future__ import annotations

import comfy.model_base
import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import numpy as np
import pytest
import safetensors
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from likeness.kernels.jedi import MASK_FIRST
from likeness.lab.joint.checkpoint import PREFIX, open_source
from likeness.lab.joint.command import main
from likeness.lab.joint.shards import Entry, write_shard
from likeness.patching.jedi.format import JointFormat
from likeness.tests.lab.joint.tiny_checkpoint import filled
from safetensors.torch import load_file, save_file

TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [0, 2],
    "transformer_depth_output": [0, 0, 2, 2],
    "transformer_depth_middle": 2,
    "context_dim": 32,
    "adm_in_channels": 16 + 6 * 256,
    "num_classes": "sequential",
    "num_head_channels": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "legacy": False,
}


class TinySDXL(comfy.supported_models.SDXL):
    """SDXL as the host detects it, of a small file."""

    unet_config = {
        "model_channels": 64,
        "use_linear_in_transformer": True,
        "transformer_depth": [0, 2],
        "context_dim": 32,
        "adm_in_channels": 16 + 6 * 256,
        "use_temporal_attention": False,
    }

    def clip_target(self, state_dict={}):
        return comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, _Texts)


class _Texts(comfy.sdxl_clip.SDXLClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):
        small = {f"{name}_model_config": TEXT for name in ("clip_l", "clip_g")}
        super().__init__(device=device, dtype=dtype, model_options={**model_options, **small})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    operations = comfy.ops.disable_weight_init
    unet = UNetModel(**UNET, dtype=torch.float32, device="cpu", operations=operations)
    state = {PREFIX + name: value for name, value in filled(unet.state_dict(), generator).items()}
    texts = filled(_Texts(dtype=torch.float32).state_dict(), generator)
    texts = {name: value for name, value in texts.items() if "logit_scale" not in name}
    state |= TinySDXL(dict(UNET)).process_clip_state_dict_for_saving(texts)
    renamed = {name.replace("clip_l.", "conditioner.embedders.0."): value for name, value in state.items()}
    autoencoder = {k: v for k, v in TAESD().state_dict().items() if not k.startswith("vae_")}
    renamed |= {f"first_stage_model.{k}": v for k, v in filled(autoencoder, generator).items()}
    path = tmp_path_factory.mktemp("sdxl") / "tiny_xl.safetensors"
    save_file({name: value.half().contiguous() for name, value in renamed.items()}, path)
    return path


@pytest.fixture
def detected(monkeypatch):
    """Lets the host know the small SDXL, and restores the settings that the command changes."""
    from comfy.cli_args import args

    monkeypatch.setattr(comfy.supported_models, "models", [TinySDXL, *comfy.supported_models.models])
    for name in ("cpu", "use_pytorch_cross_attention"):
        monkeypatch.setattr(args, name, getattr(args, name))


def test_the_vector_is_the_hosts_own(detected, checkpoint):
    source = open_source(checkpoint)
    assert source.is_sdxl and source.resolution == 1024 and not source.velocity
    pooled = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    model, _, _, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=False)
    wanted = model.model.encode_adm(pooled_output=pooled, width=128, height=128)
    found = source.vector(pooled, 128)
    assert found.shape == (3, 16 + 6 * 256) and torch.equal(found, wanted)
    assert not torch.equal(found, source.vector(pooled, 64))


def test_two_steps_on_shards_make_a_joint_sdxl_that_comfyui_loads(detected, checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(0)
    entries = [
        Entry(f"{i}", tuple(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)), ("a mug", "mugs"), {})
        for i in range(2)
    ]
    write_shard(tmp_path / "out" / "shards" / "s3-000000.tar", iter(entries))
    write_shard(tmp_path / "single" / "a.tar", iter([Entry("x", entries[0].members[:1], ("a cup",), {})]))
    out = tmp_path / "joint_xl.safetensors"
    paths = ["--sets", str(tmp_path / "out"), "--sets", str(tmp_path / "single"), "--checkpoint", str(checkpoint)]
    numbers = "--steps 2 --resolution 64 --batch 1 --set-sizes 2 --learning-rate 1e-3 --device cpu"
    main(["joint", *paths, "--out", str(out), "--work", str(tmp_path / "work"), *numbers.split()])
    assert "encoding 3 sets" in capsys.readouterr().out
    assert len(list((tmp_path / "work").glob("sets-*/s3-000000/*.safetensors"))) == 2
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(out), output_vae=True, output_clip=True)
    network = model.get_model_object("diffusion_model")
    assert network.input_blocks[0][0].weight.shape[1] == 9 and clip is not None and vae is not None
    with safetensors.safe_open(out, framework="pt") as file:
        assert JointFormat.of(file.metadata()) == JointFormat(MASK_FIRST)
    before, after = load_file(checkpoint), load_file(out)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(PREFIX) for name in changed)
    assert any("label_emb" in name for name in changed)  # captions and sizes have an effect


def test_other_predictions_are_refused(detected, checkpoint, tmp_path):
    from likeness.demo.launcher.files import Problem

    state = load_file(checkpoint) | {"edm_mean": torch.zeros(1), "edm_std": torch.zeros(1)}
    save_file(state, tmp_path / "edm.safetensors")
    with pytest.raises(Problem, match=r"expected a checkpoint that predicts noise or velocity, got EDM in .*edm"):
        open_source(tmp_path / "edm.safetensors")
