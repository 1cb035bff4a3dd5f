"""Checkpoints, LoRAs and pictures that somebody has damaged or forged: refused in one sentence, and nothing runs."""

import io
import pickle
import random
import shutil
import zipfile
import zlib

import folder_paths
import numpy as np
import pytest
import torch
from likeness.kernels.jedi import MASK_FIRST
from likeness.patching.jedi import checkpoint
from likeness.patching.jedi.format import JointFormat
from likeness.patching.layout_and_retouch import segment
from likeness.patching.tinyland import model as tinyland
from likeness.patching.tinyland import subject
from likeness.tests import tiny_segmenter
from likeness.tests.patching.host.mutations import Code, flipped, grown, mutated, other_format, truncated
from likeness.tests.patching.host.test_mutated_files import is_sentence
from PIL import Image
from safetensors.torch import save

IN_SUITE, IN_ALL = 12, 200
"""Bytes changed at random, in the suite and in the full test."""
POSITIONS = "image_encoder.pos_embed"


@pytest.fixture(scope="module")
def state():
    pytest.importorskip("segment_anything")
    return tiny_segmenter.state()


@pytest.fixture
def sams(tmp_path, monkeypatch):
    places = ([str(tmp_path / "sams")], {".pth", ".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "sams", places)
    (tmp_path / "sams").mkdir()
    return tmp_path / "sams"


def written(state, **options) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


def deflated(data: bytes) -> bytes:
    """The same archive, compressed."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()


def escaping(data: bytes) -> bytes:
    """The same archive with names that lead out of it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for number, entry in enumerate(old.infolist()):
            new.writestr(("../../" if number % 2 else "/tmp/") + entry.filename, old.read(entry))
    return packed.getvalue()


def forged(state, trace) -> dict[str, bytes]:
    """Files with code, bombs, strange names, and weights of other shapes and types."""
    code, positions = Code(trace), state[POSITIONS]
    legacy = {"_use_new_zipfile_serialization": False}
    return {
        "code": written({POSITIONS: code}),
        "nested code": written({"model": {**state, "more": [code]}}),
        "code in an old format": written({**state, "more": code}, **legacy),
        "bare pickle": pickle.dumps(code),
        "compressed": deflated(written(state)),
        "bomb": deflated(written({"more": torch.zeros(8_000_000)})),
        "escaping": escaping(written(state)),
        "list": written([*state.values()]),
        "number": written(3),
        "text": written("weights"),
        "empty": written({}),
        "one lost": written({k: v for k, v in state.items() if not k.endswith("no_mask_embed.weight")}),
        "one more": written({**state, "more": torch.zeros(1)}),
        "another shape": written({**state, "mask_decoder.iou_token.weight": torch.zeros(2, 256)}),
        "no tensor": written({**state, "mask_decoder.iou_token.weight": "x"}),
        "spread": written({**state, POSITIONS: torch.zeros(1).expand(1, 30_000, 30_000, 32)}),
        "no width": written({**state, POSITIONS: torch.zeros(1, 16, 16, 0)}),
        "no heads": written({**state, "image_encoder.blocks.0.attn.rel_pos_h": torch.zeros(27, 0)}),
        "flat": written({**state, "image_encoder.blocks.1.attn.rel_pos_h": torch.zeros(27)}),
        "no dictionary": written({"model": positions}),
        "sparse": written({**state, POSITIONS: positions.float().to_sparse()}),
        "numbers as names": written({1: positions, **state}),
    }


def refusal(sams, name: str, data: bytes) -> str:
    """Sentence of a refusal, empty for a file that is read as a whole one."""
    (sams / name).write_bytes(data)
    try:
        segment.load(name)
    except ValueError as error:
        assert is_sentence(str(error), segment.NODE), str(error)[:300]
        return str(error)
    return ""


def test_forged_segmenters(sams, state, tmp_path, capsys):
    trace = tmp_path / "ran"
    files = forged(state, trace)
    said = {kind: refusal(sams, "sam.pth", data) for kind, data in files.items()}
    assert [kind for kind, text in said.items() if not text] == []
    assert not trace.exists() and len(files["bomb"]) < 10**6
    assert refusal(sams, "sam.pth", written(state)) == refusal(sams, "sam.pth", written({"model": state})) == ""


@pytest.mark.parametrize("count", [IN_SUITE, pytest.param(IN_ALL, marks=pytest.mark.full)])
def test_mutated_segmenters(sams, state, count):
    whole, said = written(state), []
    for seed in range(count):
        rng = random.Random(seed)
        mutation = rng.choice([truncated, flipped, grown, other_format])
        said.append(refusal(sams, "sam.pth", mutation(whole, rng)))
        said.append(refusal(sams, "sam.safetensors", mutated(save({"x": torch.zeros(4)}, {"a": "[1]"}), seed)[1]))
    assert sum(map(bool, said)) > 1.2 * count


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """ComfyUI's folder of checkpoints."""
    places = ([str(tmp_path / "checkpoints")], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", places)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("count", [2 * IN_SUITE, pytest.param(IN_ALL, marks=pytest.mark.full)])
def test_mutated_joint_checkpoints(checkpoints, count):
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3), "x": torch.zeros(2)}
    whole = save(tensors, JointFormat(MASK_FIRST).metadata())
    for seed in range(-1, count):  # no network is whole in such a file
        (checkpoints / "joint.safetensors").write_bytes(whole if seed < 0 else mutated(whole, seed)[1])
        with pytest.raises(ValueError, match="Load Joint Checkpoint") as error:
            checkpoint.load("joint.safetensors")
        assert is_sentence(str(error.value), checkpoint.NODE), str(error.value)[:300]


@pytest.mark.parametrize("written_by", [pickle.dumps, written], ids=["pickle", "torch.save"])
def test_code_in_a_joint_checkpoint_does_not_run(checkpoints, tmp_path, written_by):
    (checkpoints / "joint.safetensors").write_bytes(written_by(Code(tmp_path / "ran")))
    with pytest.raises(ValueError, match="expected a safetensors file") as error:
        checkpoint.load("joint.safetensors")
    assert is_sentence(str(error.value), checkpoint.NODE) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "{folder}/x.safetensors", "x.txt", "NUL", "a/../../x.safetensors"]
)
def test_names_out_of_the_folders_are_refused(checkpoints, sams, tmp_path, name):
    for folder in (tmp_path, checkpoints, sams):
        (folder / ("x.safetensors" if folder == tmp_path else "x.txt")).write_bytes(b"secret")
    for load, node in ((checkpoint.load, checkpoint.NODE), (segment.load, segment.NODE)):
        with pytest.raises(FileNotFoundError) as error:
            load(name.format(folder=tmp_path))
        assert is_sentence(str(error.value), node)


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """Name and folder of a demo subject in a private copy of the weights."""
    monkeypatch.setattr(tinyland, "WEIGHTS", tmp_path / "weights")
    (tmp_path / "weights" / "subjects").mkdir(parents=True)
    facts = {"tinyland_subject": '{"class": "mushroom", "placeholder": "sks"}'}
    layer = "diffusion_model.input_blocks.1.1.proj_in"
    lora = {f"{layer}.lora_up.weight": torch.zeros(4, 2), f"{layer}.lora_down.weight": torch.zeros(2, 4)}
    subject.files("amanita")[0].write_bytes(save(lora, facts))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(subject.files("amanita")[1])
    return "amanita"


@pytest.mark.parametrize("count", [2 * IN_SUITE, pytest.param(IN_ALL, marks=pytest.mark.full)])
def test_mutated_subjects(bundled, count):
    lora, picture = subject.files(bundled)
    whole, drawn, said = lora.read_bytes(), picture.read_bytes(), []
    assert subject.Subject.load(bundled).references().shape == (4, 32, 32, 3)
    for seed in range(count):
        rng = random.Random(seed)
        lora.write_bytes(mutated(whole, seed)[1])
        picture.write_bytes(rng.choice([truncated, flipped, grown, other_format])(drawn, rng))
        known = subject.Subject(bundled, {}, "mushroom", "sks")
        for read in (lambda: subject.Subject.load(bundled), known.references):
            try:
                read()
            except ValueError as error:
                assert is_sentence(str(error), subject.NODE), str(error)[:300]
                said.append(str(error))
    assert len(said) > count


@pytest.mark.parametrize("written_by", [pickle.dumps, written], ids=["pickle", "torch.save"])
def test_code_in_a_subject_does_not_run(bundled, tmp_path, written_by):
    subject.files(bundled)[0].write_bytes(written_by(Code(tmp_path / "ran")))
    with pytest.raises(ValueError, match="expected") as error:
        subject.Subject.load(bundled)
    assert is_sentence(str(error.value), subject.NODE) and not (tmp_path / "ran").exists()


def test_a_picture_too_large_to_decode_is_refused(bundled):
    picture = subject.files(bundled)[1]
    data = picture.read_bytes()
    sizes = b"IHDR" + (40_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big") + data[24:29]
    picture.write_bytes(data[:12] + sizes + zlib.crc32(sizes).to_bytes(4, "big") + data[33:])
    with pytest.raises(ValueError, match=r"Demo Subject: expected 4 square pictures .*400000000 pixels"):
        subject.Subject(bundled, {}, "mushroom", "sks").references()


@pytest.mark.parametrize("file", ["denoiser", "autoencoder"])
def test_a_demo_model_of_other_weights_is_refused(tmp_path, file):
    for name in ("denoiser", "autoencoder"):
        shutil.copy(tinyland.WEIGHTS / f"{name}.safetensors", tmp_path)
    tensors, facts = tinyland.read_weights(tmp_path / f"{file}.safetensors", "tinyland")
    name = max(tensors, key=lambda key: tensors[key].numel())
    for changed, told in (({**tensors, name: tensors[name][:1]}, facts), (tensors, {"tinyland": "{}"})):
        data = save(changed, told)
        (tmp_path / f"{file}.safetensors").unlink()  # the tensors are mapped from it
        (tmp_path / f"{file}.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match="Demo Model: expected") as error:
            tinyland.load(tmp_path)
        assert is_sentence(str(error.value), "Demo Model"), str(error.value)[:300]
