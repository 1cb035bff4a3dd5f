"""The demo's 8-bit files: what is read back, and one sentence for changes of other weights and for damaged files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from likeness.demo.training.loop import write_weights
from likeness.patching.tinyland import model as tinyland
from likeness.patching.tinyland.weights import KEY, read_weights
from likeness.tests.patching.host.mutations import joined, mutated, parts
from likeness.tests.patching.host.test_mutated_files import is_sentence
from safetensors.torch import load_file, save

NODE = "Demo Model"
SUFFIX = ".channel_scale"
IN_SUITE, IN_ALL = 60, 600
"""Files changed at random, in the suite and in the full test."""


def drawn(seed: int = 0, wide: int = 4) -> dict[str, torch.Tensor]:
    """Weights of a convolution and of a linear layer whose channels differ much in size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([1e-3, 0.1, 1.0, 10.0, 0.0, 3.0])
    return {
        "conv.weight": torch.randn(8, wide, 3, 3, generator=generator),
        "linear.weight": sizes[:, None] * torch.randn(6, 40, generator=generator),
        "linear.bias": torch.randn(6, generator=generator),
    }


def halved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.half() for name, value in tensors.items()}


def owned(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file, which stay as they are when it is written over."""
    return {name: value.clone() for name, value in load_file(path).items()}


def near(base: dict[str, torch.Tensor], change: float = 0.01) -> dict[str, torch.Tensor]:
    """Weights near the base's."""
    generator = torch.Generator().manual_seed(1)
    return {k: v.float() + change * torch.randn(v.shape, generator=generator) for k, v in base.items()}


def error(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Largest error of each output channel."""
    return (found.float() - wanted).flatten(1).abs().amax(1)


def test_each_channel_is_rounded_by_its_own_scale(tmp_path):
    tensors, path = drawn(), tmp_path / "a.safetensors"
    write_weights(tensors, path, {"kind": "{}", "steps": "3"}, eight_bit=True)
    stored, (found, facts) = load_file(path), read_weights(path, "kind")
    assert stored["conv.weight"].dtype == torch.int8 and stored["linear.bias"].dtype == torch.float16
    assert facts["steps"] == "3" and found.keys() == tensors.keys()
    assert {value.dtype for value in found.values()} == {torch.float16}
    for name in ("conv.weight", "linear.weight"):
        largest = tensors[name].flatten(1).abs().amax(1)
        assert (error(found[name], tensors[name]) <= 0.55 * largest / 127 + 2**-11 * largest).all()
    assert torch.equal(found["linear.bias"], tensors["linear.bias"].half())
    assert not found["linear.weight"][4].any()  # its scale is zero


def test_changes_are_rounded_by_their_own_size(tmp_path):
    base, path = halved(drawn()), tmp_path / "a.safetensors"
    base["linear.weight"] = base["linear.weight"].clamp(-2, 2)
    tensors = near(base) | {"more.weight": torch.randn(3, 5)}
    tensors["conv.weight"] = torch.cat([tensors["conv.weight"]] * 2, 1)  # a shape that the base does not have
    write_weights(tensors, path, {"kind": "{}"}, eight_bit=True, base=base)
    stored, found = load_file(path), read_weights(path, "kind", base=base)[0]
    assert {name for name, value in stored.items() if value.dtype == torch.int8} == {"linear.weight"}
    for name in ("conv.weight", "more.weight", "linear.bias"):
        assert torch.equal(found[name], tensors[name].half())
    wanted = tensors["linear.weight"]
    rounded = 2**-10 * wanted.abs()  # by fp16 alone, of base and sum
    assert ((found["linear.weight"].float() - wanted).abs() <= 0.02 / 127 + rounded).all()
    assert not torch.equal(found["linear.weight"], base["linear.weight"])


def test_changes_of_other_weights_are_refused(tmp_path):
    base, path = halved(drawn()), tmp_path / "a.safetensors"
    write_weights(near(base), path, {"kind": "{}"}, eight_bit=True, base=base)
    read_weights(path, "kind", base={**base, "text": torch.zeros(3)})  # what has no changes may differ
    moved = {**base, "linear.weight": base["linear.weight"].flip(0)}
    lacking = {k: v for k, v in base.items() if k != "conv.weight"}
    for other in (None, {}, moved, lacking, halved(drawn(wide=5))):
        with pytest.raises(
            ValueError, match=r"^Demo Model: expected a\.safetensors made for the denoiser\.saf"
        ) as told:
            read_weights(path, "kind", base=other)
        assert is_sentence(str(told.value), NODE)


def test_a_joint_model_on_another_denoiser_is_refused(tmp_path):
    whole = load_file(tinyland.WEIGHTS / "denoiser.safetensors")
    facts = tinyland.read_weights(tinyland.WEIGHTS / "denoiser.safetensors", "tinyland")[1]
    for name in ("autoencoder", "joint"):
        (tmp_path / f"{name}.safetensors").write_bytes((tinyland.WEIGHTS / f"{name}.safetensors").read_bytes())
    write_weights(whole, tmp_path / "denoiser.safetensors", {**facts, "steps": "1"})
    assert tinyland.load(tmp_path, joint=True)[0].model.diffusion_model.in_channels == 9  # the same weights
    write_weights({k: v + 1e-3 for k, v in whole.items()}, tmp_path / "denoiser.safetensors", facts)
    with pytest.raises(ValueError, match=r"^Demo Joint Model: expected joint\.safetensors made for the denoiser"):
        tinyland.load(tmp_path, joint=True)


def refusal(path, data: bytes, base: dict[str, torch.Tensor] | None) -> str:
    """Sentence of a refusal, empty for a file that is read as a whole one."""
    path.write_bytes(data)
    try:
        found = read_weights(path, "kind", base=base)[0]
    except ValueError as told:
        assert is_sentence(str(told), NODE), str(told)[:300]
        return str(told)
    assert all(isinstance(value, torch.Tensor) for value in found.values())
    path.unlink()  # the tensors are mapped from it
    return ""


def test_forged_files_are_refused(tmp_path):
    base, path = halved(drawn()), tmp_path / "a.safetensors"
    write_weights(near(base), path, {"kind": "{}"}, eight_bit=True, base=base)
    changed = owned(path)
    header, body = parts(path.read_bytes())
    entry = header["__metadata__"][KEY]
    write_weights(drawn(), path, {"kind": "{}"}, eight_bit=True)
    plain, name = owned(path), "linear.weight"

    def file(tensors: dict[str, torch.Tensor], stated: str) -> bytes:
        return save(tensors, {"kind": "{}", KEY: stated})

    def with_scale(scale: torch.Tensor) -> bytes:
        return file({**plain, name + SUFFIX: scale}, "{}")

    forged = {
        "no JSON": file(plain, "{"),
        "deep": file(plain, "[" * 20_000),
        "a list": file(plain, "[]"),
        "a base of no text": file(changed, '{"base": 3}'),
        "a base of nothing": file(changed, '{"base": null}'),
        "no scale": file({k: v for k, v in plain.items() if k != name + SUFFIX}, "{}"),
        "a scale too short": with_scale(torch.ones(5).half()),
        "a scale too wide": with_scale(torch.ones(6, 1).half()),
        "a scale of integers": with_scale(torch.ones(6, dtype=torch.int16)),
        "an infinite scale": with_scale(torch.full((6,), float("inf")).half()),
        "a scale that is no number": with_scale(torch.full((6,), float("nan")).half()),
        "a vector in 8 bits": file({**plain, "linear.bias": torch.ones(6, dtype=torch.int8)}, "{}"),
        "a number in 8 bits": file({**plain, "x": torch.ones((), dtype=torch.int8)}, "{}"),
        "changes without their base": file({**changed, "x": torch.ones(2, 2, dtype=torch.int8)}, entry),
        "another shape": file({**changed, name: changed[name].reshape(6, 20, 2)}, entry),
        "cut": joined(header, body[:-9]),
    }
    assert [what for what, data in forged.items() if not refusal(path, data, base)] == []
    for whole, stated in ((changed, entry), (plain, "{}")):
        assert refusal(path, file(whole, stated), base) == ""
    # Too large a scale overflows fp16, and infinite weights draw black pictures.
    assert "not finite" in refusal(path, with_scale(torch.full((6,), 6e4).half()), base)


@pytest.mark.parametrize("count", [IN_SUITE, pytest.param(IN_ALL, marks=pytest.mark.full)])
def test_mutated_files_are_refused_or_whole(tmp_path, count):
    base, path = halved(drawn()), tmp_path / "a.safetensors"
    write_weights(near(base), path, {"kind": "{}"}, eight_bit=True, base=base)
    whole, said = path.read_bytes(), []
    for seed in range(count):
        data = mutated(whole, seed)[1]
        said.append(refusal(path, data, base))
        header, body = parts(whole)
        rng = random.Random(seed)
        flip = rng.randrange(len(body))
        damaged = body[:flip] + bytes([body[flip] ^ 1 << rng.randrange(8)]) + body[flip + 1 :]
        header["__metadata__"][KEY] = json.dumps({"base": rng.choice(["", "0" * 16, [], {}])})
        assert refusal(path, joined(header, damaged), base)
    assert sum(map(bool, said)) > 0.6 * count
