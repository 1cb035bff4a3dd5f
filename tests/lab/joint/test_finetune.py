"""Training of a joint model on sets: from a folder and an SD1.x checkpoint to a joint checkpoint that ComfyUI loads."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import comfy.sd
import numpy as np
import pytest
import safetensors
import torch
from likeness.demo.launcher.files import Problem
from likeness.demo.training.jedi.network import FIRST_LAYER
from likeness.demo.training.jedi.scenes import VIEWS, scene_of_set
from likeness.demo.world.captions import caption
from likeness.demo.world.scene import render
from likeness.kernels.jedi import MASK_FIRST
from likeness.lab.joint import command
from likeness.lab.joint.checkpoint import PREFIX, check_output, open_source
from likeness.lab.joint.finetune import Settings, check_sizes, drawn, encode, largest_first, train
from likeness.lab.joint.sets import find_sets, write_set
from likeness.patching.jedi.format import JointFormat
from likeness.tests.lab.joint import tiny_checkpoint
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")
SETTINGS = Settings(
    steps=2, resolution=64, batch=1, learning_rate=1e-3, set_sizes=(1, 2, 3), text_dropout=0.1, loss_on="all"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tiny_checkpoint.write(tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors", tiny_checkpoint.tensors())
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of two sets of Tinyland's renders, with two and three members."""
    folder = tmp_path_factory.mktemp("sets")
    for number, members in enumerate((2, 3)):
        scenes = [scene_of_set(VIEWS * number + view, 0) for view in range(members)]
        write_set(folder / f"{number}.png", [render(s).image for s in scenes], [caption(s, Random(0)) for s in scenes])
    return folder


@pytest.fixture(scope="module")
def cached(checkpoint, folder, tmp_path_factory):
    """Work folder with the sets encoded."""
    work = tmp_path_factory.mktemp("work")
    encode(work, find_sets(folder), open_source(checkpoint), 64)
    return work


@pytest.fixture
def parted(monkeypatch):
    """Restores the process-wide settings that the command changes."""
    from comfy.cli_args import args

    for name in ("cpu", "use_pytorch_cross_attention"):
        monkeypatch.setattr(args, name, getattr(args, name))


def test_two_steps_make_a_joint_checkpoint_that_comfyui_loads(parted, checkpoint, folder, cached, tmp_path, capsys):
    out = tmp_path / "joint.safetensors"
    paths = ["--sets", str(folder), "--checkpoint", str(checkpoint), "--out", str(out), "--work", str(cached)]
    numbers = "--steps 2 --resolution 64 --batch 1 --set-sizes 2 --learning-rate 1e-3 --device cpu"
    command.main(["joint", *paths, *numbers.split()])
    assert "encoding" not in capsys.readouterr().out  # what is in the work folder is not encoded again
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(out), output_vae=True, output_clip=True)
    network = model.get_model_object("diffusion_model")
    assert network.input_blocks[0][0].weight.shape[1] == 9 and clip is not None and vae is not None
    with safetensors.safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert JointFormat.of(metadata) == JointFormat(MASK_FIRST)
    assert (metadata["title"], metadata["steps"], metadata["checkpoint"]) == ("tiny", "2", "tiny.safetensors")
    before, after = load_file(checkpoint), load_file(out)
    assert before.keys() == after.keys() and all(after[k].dtype == v.dtype for k, v in before.items())
    kept = [k for k in before if not k.startswith(PREFIX)]
    assert kept and all(torch.equal(before[k], after[k]) for k in kept)
    assert not torch.equal(before[PREFIX + "out.2.weight"], after[PREFIX + "out.2.weight"])
    assert not [p for p in tmp_path.iterdir() if p != out]
    out.unlink()


def test_a_longer_training_goes_on_where_the_shorter_one_ended(checkpoint, folder, cached):
    sets, source = find_sets(folder), open_source(checkpoint)
    stored = next(cached.glob("joint-*.checkpoint.pt"), None)
    if stored:
        stored.unlink()
    whole = train(cached, [sets], source, SETTINGS, CPU)
    next(cached.glob("joint-*.checkpoint.pt")).unlink()
    shorter = train(cached, [sets], source, replace(SETTINGS, steps=1), CPU)
    resumed = train(cached, [sets], source, SETTINGS, CPU)
    assert not torch.equal(shorter.get_parameter(FIRST_LAYER), whole.get_parameter(FIRST_LAYER))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    next(cached.glob("joint-*.checkpoint.pt")).unlink()


def test_the_joint_network_starts_as_the_checkpoints_own(checkpoint):
    source = open_source(checkpoint)
    unet, weight = source.joint_unet(CPU), load_file(checkpoint)[PREFIX + FIRST_LAYER].float()
    assert torch.equal(unet.get_parameter(FIRST_LAYER)[:, 1:5], weight)
    assert unet.get_parameter(FIRST_LAYER)[:, [0, 5, 6, 7, 8]].abs().max() == 0
    assert not source.velocity and len(source.sigmas) == 1000


def test_sets_are_encoded_once_and_again_when_they_change(checkpoint, folder, cached):
    source, sets = open_source(checkpoint), find_sets(folder)
    encoded, without = encode(cached, sets, source, 64)
    latents, texts = encoded[1].read([2, 0], CPU)
    context = texts.context
    clip, vae = source.encoders()
    pixels = torch.from_numpy(sets[1].pictures(64)).float() / 255
    with torch.inference_mode():
        wanted = source.latent_format.process_in(vae.encode(pixels).float())[[2, 0]]
        text = clip.encode_from_tokens(clip.tokenize(sets[1].captions[2]))
    assert latents.shape == (2, 4, 8, 8) and torch.allclose(latents, wanted, rtol=2e-3, atol=2e-3)
    assert torch.allclose(context[:1], text.float(), atol=1e-2) and not torch.allclose(
        context[:1], without.context, atol=1e-2
    )
    changed = sets[0].path.with_suffix(".txt")
    changed.write_text(changed.read_text() + " ", encoding="utf-8")
    again = encode(cached, find_sets(folder), source, 64)[0]
    assert again[0].path != encoded[0].path and again[1].path == encoded[1].path
    assert not list(cached.rglob("*.tmp"))


def test_a_step_draws_members_of_sets_that_are_large_enough(checkpoint, folder, cached):
    encoded, without = encode(cached, find_sets(folder), open_source(checkpoint), 64)
    settings = replace(SETTINGS, batch=2, set_sizes=(3,), text_dropout=0.5)
    three = encoded[1].read([0, 1, 2], CPU)[0]
    dropped = []
    for step in range(20):
        clean, texts, members = drawn([largest_first(encoded)], without, settings, Random(step), CPU)
        assert members == 3 and clean.shape == (6, 4, 8, 8)
        for one in clean.split(3):  # all of the only set with three, in any order
            assert sorted(int((three == row).flatten(1).all(1).nonzero()) for row in one) == [0, 1, 2]
        assert texts.pooled is None
        empty = (texts.context == without.context).flatten(1).all(1).view(2, 3)
        assert (empty == empty[:, :1]).all()
        dropped += empty[:, 0].tolist()
    assert 0.2 < np.mean(dropped) < 0.8


def test_sizes_that_no_set_has_are_refused(folder):
    with pytest.raises(Problem, match=r"expected --set-sizes up to 3, the size of the largest set, got 4: leave"):
        check_sizes([find_sets(folder)], (1, 2, 3, 4))


def test_what_is_no_sd1_checkpoint_is_refused(tmp_path, checkpoint):
    path = tmp_path / "other.safetensors"

    def refused(sentence: str):
        with pytest.raises(Problem, match=sentence):
            open_source(path)

    refused(r"expected an SD1.x or SDXL checkpoint at .*, got no such file: correct --checkpoint")
    path.write_bytes(b"no tensors")
    refused(r"expected a safetensors file at .*, got something else .*: give --checkpoint another file")
    save_file({"weight": torch.zeros(2)}, path)
    refused(r"expected an SD1.x or SDXL checkpoint, got no U-Net that is known in .*: give --checkpoint another file")
    state = load_file(checkpoint)
    unet = {k: v for k, v in state.items() if k.startswith(PREFIX)}
    save_file(unet, path)
    refused(r"expected a CLIP in the checkpoint, got none in .*: give --checkpoint a full one")
    save_file(unet | {"cond_stage_model.x": torch.zeros(1)}, path)
    refused(r"expected a VAE in the checkpoint, got none in .*: give --checkpoint a full one")
    joint = {**unet, PREFIX + FIRST_LAYER: torch.zeros(320, 9, 3, 3)}
    save_file(joint, path)
    refused(
        r"expected 4 input channels, got 9 \(of inpainting, or already joint\) in .*: give --checkpoint another file"
    )
    both = {"cond_stage_model.x": torch.zeros(1), "first_stage_model.x": torch.zeros(1)}
    save_file({k: v for k, v in unet.items() if not k.endswith("out.2.weight")} | both, path)
    with pytest.raises(
        Problem, match=r"expected a whole U-Net in .*, got one without out.2.weight: give --checkpoint another file"
    ):
        open_source(path).joint_unet(CPU)
    linear = {k: v.flatten(1) if k.endswith(("proj_in.weight", "proj_out.weight")) else v for k, v in unet.items()}
    wide = {
        k: torch.zeros(len(v), 1024) if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) else v
        for k, v in linear.items()
    }
    save_file(wide | both, path)
    refused(r"expected an SD1.x or SDXL checkpoint, got SD20 in .*: give --checkpoint another file")


def test_an_output_that_would_replace_something_else_is_refused(tmp_path, checkpoint):
    def refused(path, sentence: str):
        with pytest.raises(Problem, match=sentence):
            check_output(path, checkpoint)

    refused(tmp_path / "joint.ckpt", r"expected --out to end in .safetensors, got .*joint.ckpt: rename it")
    refused(checkpoint, r"expected --out to be another file than --checkpoint, got .* for both: rename --out")
    sentence = r"expected nothing or a safetensors file at --out, got something else at .*: give --out another name"
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", sentence)
    (tmp_path / "text.safetensors").write_text("notes")
    refused(tmp_path / "text.safetensors", sentence)
    check_output(tmp_path / "new.safetensors", checkpoint)
    save_file({"weight": torch.zeros(1)}, tmp_path / "older.safetensors")
    check_output(tmp_path / "older.safetensors", checkpoint)
