"""Joint sets of diffusion transformers, whose attention joins picture and prompt."""

from dataclasses import replace

import comfy.sample
import pytest
import torch
from likeness.patching.features.positions import BESIDE, INDEX, SAME
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.jedi.build import joint_guider
from likeness.patching.jedi.filling import Bias, Masked, common_length
from likeness.patching.jedi.sampling import sample_set
from likeness.tests.patching.jedi.joint_runs import WIDGETS
from likeness.tests.patching.tiny_dits import WITH_FRAMES, conditioning, latent, run_ksampler, tiny_dit

NEGATIVE = conditioning(tokens=5, seed=11)
LENGTHS = {"zimage": (7, 40, 33)}  # filled to 32, 64 and 64 tokens


def prompts(dit: str, count: int = 3) -> list[list]:
    lengths = LENGTHS.get(dit, (7, 9, 6))
    return [conditioning(tokens=lengths[i], seed=30 + i) for i in range(count)]


def reference(dit: str) -> Reference:
    return Reference(latent(dit, seed=20), prompts(dit, 3)[2], NOISED, 20)


def run(dit: str, texts=None, references=(), seeds=(3,), batch=1, height=8, width=8, **widgets) -> torch.Tensor:
    texts = prompts(dit) if texts is None else texts
    guider = joint_guider(
        tiny_dit(dit),
        prompts=texts,
        negative=NEGATIVE,
        references=[References((r,)) for r in references],
        captions=[],
        widgets=replace(WIDGETS, **widgets),
        node="Node",
    )
    empty = {"samples": torch.zeros_like(latent(dit, batch, height, width)["samples"])}
    schedule = {"steps": 2, "sampler": "euler", "scheduler": "simple", "denoise": 1.0, "node": "Node"}
    return sample_set(guider, empty, pictures=len(texts), seeds=list(seeds), **schedule)["samples"]


def alone(dit: str, text: list, seed: int) -> torch.Tensor:
    empty = {"samples": torch.zeros_like(latent(dit)["samples"])}
    return run_ksampler(tiny_dit(dit), dit, text, NEGATIVE, empty, seed=seed, steps=2)


def close(found: torch.Tensor, expected: torch.Tensor, share: float = 2e-3) -> None:
    torch.testing.assert_close(found, expected, rtol=share, atol=share * float(expected.std()))


def test_uncoupled_pictures_are_those_of_ksampler(dit):
    """Prompts of several lengths stand in one call, and the filling of the shorter ones is not seen."""
    made = run(dit, seeds=(3, 4, 5), strength=0.0)
    for i, text in enumerate(prompts(dit)):
        close(made[i : i + 1], alone(dit, text, 3 + i))


def test_coupling_changes_the_pictures_and_not_their_order(dit):
    texts, size = prompts(dit), {"height": 7, "width": 9}
    made = run(dit, texts, seeds=(3, 4, 5), **size)
    apart = run(dit, texts, seeds=(3, 4, 5), strength=0.0, **size)
    assert float((made - apart).abs().mean()) > 0.01 * float(apart.std())
    order = [2, 0, 1]
    permuted = run(dit, [texts[i] for i in order], seeds=[(3, 4, 5)[i] for i in order], **size)
    close(permuted, made[order])


class Together:
    """An attention override, not of the pack: the pictures of a call attend to each other's pictures too."""

    def __init__(self, family: str, size: tuple[int, int]):
        patch = 1 if family == "flux2" else 2
        self.family, self.picture = family, -(-size[0] // patch) * -(-size[1] // patch)

    def __call__(self, func, q, k, v, heads, *args, **kwargs):
        options, split = kwargs.get("transformer_options") or {}, kwargs.get("skip_reshape")
        flat = [t.transpose(1, 2).flatten(2) if split else t.flatten(2) for t in (q, k, v)]
        total, after = flat[0].shape[1], -self.picture % 32 if self.family == "zimage" else 0
        main = total > self.picture if self.family == "sd3" else options.get("block_index") is not None
        if not main or flat[1].shape[1] != total:
            return func(q, k, v, heads, *args, **kwargs)
        start = {"zimage": total - self.picture - after, "lumina2": total - self.picture, "anima": 0}
        first = start.get(self.family, total - self.picture)
        picture = slice(first, first + self.picture)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in flat)
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        for i in range(len(q)):
            others = [j for j in range(len(q)) if j != i]
            keys, values = (torch.cat([t[i], *(t[j][:, picture] for j in others)], 1) for t in (k, v))
            out[i, :, picture] = torch.nn.functional.scaled_dot_product_attention(q[i, :, picture], keys, values)
        return out.transpose(1, 2).flatten(2)


def test_coupling_equals_the_method_by_hand(dit):
    height, width = 8, 10
    texts = [conditioning(tokens=7, seed=30 + i) for i in range(2)]
    empty = torch.zeros_like(latent(dit, 2, height, width)["samples"])
    made = run(dit, texts, seeds=(3, 4), height=height, width=width, positions=SAME, cfg=1.0)
    model = tiny_dit(dit)
    model.model_options["transformer_options"]["optimized_attention_override"] = Together(dit, (height, width))
    noise = torch.cat([comfy.sample.prepare_noise(empty[:1], seed) for seed in (3, 4)])
    both = torch.cat([text[0][0] for text in texts]), torch.cat([text[0][1]["pooled_output"] for text in texts])
    positive = [[both[0], {"pooled_output": both[1]}]]
    by_hand = comfy.sample.sample(
        model, noise, 2, 1.0, "euler", "simple", positive, NEGATIVE, empty, disable_pbar=True, seed=3
    )
    close(made, by_hand)
    assert not torch.allclose(made, run(dit, texts, seeds=(3, 4), height=height, width=width, strength=0.0, cfg=1.0))


def test_a_set_of_one_is_the_picture_alone(dit):
    close(run(dit, prompts(dit, 1)), alone(dit, prompts(dit, 1)[0], 3))


def test_references_are_members(dit):
    plain, with_reference = run(dit, prompts(dit, 1)), run(dit, prompts(dit, 1), [reference(dit)])
    assert plain.shape == with_reference.shape and not torch.allclose(plain, with_reference, atol=1e-2)
    guided = run(dit, prompts(dit, 1), [reference(dit)], guidance="text_first", image_cfg=2.0, height=9, width=10)
    assert guided.shape[-2:] == (9, 10) and bool(guided.isfinite().all())


@pytest.mark.parametrize("dit", ["flux", "flux2", "zimage", "qwen", "krea2", "anima"], indirect=True)
def test_positions_move_the_others(dit):
    made = {name: run(dit, prompts(dit, 2), positions=name, seeds=(3, 4)) for name in (SAME, BESIDE, INDEX)}
    assert not torch.allclose(made[SAME], made[BESIDE], atol=1e-3)
    assert not torch.allclose(made[BESIDE], made[INDEX], atol=1e-3)


def test_a_network_without_rotations_ignores_positions():
    made = [run("sd3", prompts("sd3", 2), positions=name) for name in (SAME, BESIDE)]
    assert torch.equal(*made)


@pytest.mark.parametrize("dit", ["zimage", "lumina2"], indirect=True)
def test_lengths_that_place_the_picture_are_refused_beside_other_pictures(dit):
    given = {"reference_latents": [latent(dit, seed=9)["samples"]]}
    texts = [[[text[0][0], {**text[0][1], **given}]] for text in (conditioning(tokens=n, seed=n) for n in (7, 9))]
    with pytest.raises(ValueError, match=r"^Node: expected prompts and captions of one length beside .*, got 7 and 9"):
        run(dit, texts)


@pytest.mark.parametrize(
    ("lengths", "multiple", "expected"),
    [((7, 9), 1, 9), ((7, 9), 32, 33), ((9, 9), 32, 9), ((40, 33), 32, 65), ((30, 31, 64), 32, 65), ((64, 32), 32, 64)],
)
def test_the_common_length_leaves_room_for_learned_tokens(lengths, multiple, expected):
    found = common_length(lengths, multiple)
    assert found == expected
    assert all(-found % multiple >= -length % multiple for length in lengths)


def test_the_layers_of_a_call_share_a_mask():
    bias, seen = Bias(torch.full((2, 1, 1, 3), -1e4)), []
    q, own = torch.zeros(2, 4, 8), torch.zeros(2, 7)
    layer = Masked(bias, 4, lambda func, q, k, v, heads, **kwargs: seen.append(kwargs["mask"]))
    for mask in (None, None, own, own, own.clone()):
        layer(torch.nn.functional.scaled_dot_product_attention, q, torch.zeros(2, 7, 8), q, 2, mask=mask)
    assert seen[0] is seen[1] and seen[2] is seen[3] and seen[3] is not seen[4]
    assert all(torch.equal(mask[0].flatten(), torch.tensor([-1e4] * 3 + [0.0] * 4)) for mask in seen[:2])


@pytest.mark.parametrize("dit", ["flux", "krea2", "anima"], indirect=True)
def test_queries_are_blended_with_those_of_uncoupled_pictures(dit):
    plain = run(dit, prompts(dit, 2), seeds=(3, 4))
    blended = run(dit, prompts(dit, 2), seeds=(3, 4), query_blend=0.9, query_blend_end=1.0)
    assert not torch.allclose(plain, blended, atol=1e-3)


def test_automatic_blocks_are_not_all(dit):
    made, every = run(dit, prompts(dit, 2), blocks="automatic"), run(dit, prompts(dit, 2))
    assert not torch.equal(made, every)


@pytest.mark.parametrize("dit", WITH_FRAMES, indirect=True)
def test_frames_are_kept(dit):
    assert run(dit, prompts(dit, 2)).shape == (2, 16, 1, 8, 8)


@pytest.mark.parametrize("dit", ["flux", "flux2", "qwen"], indirect=True)
def test_the_hosts_own_references_stay_beside_the_set(dit):
    """Kontext and Edit models see pictures that the prompt brings along, after the picture's own tokens."""
    given = {"reference_latents": [latent(dit, seed=9)["samples"]], "reference_latents_method": "index"}
    texts = [[[text[0][0], {**text[0][1], **given}]] for text in prompts(dit, 2)]
    apart = run(dit, texts, seeds=(3, 4), strength=0.0)
    for i, text in enumerate(texts):
        close(apart[i : i + 1], alone(dit, text, 3 + i))
    assert not torch.allclose(apart, run(dit, prompts(dit, 2), seeds=(3, 4), strength=0.0), atol=1e-2)
    coupled = run(dit, texts, seeds=(3, 4))
    swapped = run(dit, texts[::-1], seeds=(4, 3))
    close(swapped, coupled.flip(0))
