"""Places of the pack's references beside those of the host, in the keys that the attention gets."""

from __future__ import annotations

import pytest
import torch
from likeness.kernels.attention import rotated
from likeness.patching.features.lending import BATCHED, SEQUENTIAL
from likeness.patching.features.positions import BESIDE, INDEX
from likeness.patching.features.references import NOISED, Reference
from likeness.patching.features.sources import noised_source
from likeness.patching.host.families import family_of
from likeness.patching.host.family import Shift
from likeness.patching.jedi.sampling import sample_set
from likeness.patching.layout_and_retouch.settings import APPEND
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.dit_verbs import OTHER, SCHEDULE, TEXT, guider_of_set, network
from likeness.tests.patching.layout_and_retouch.retouch_dit_runs import retouched

pytestmark = pytest.mark.usefixtures("as_the_host_runs")

HEIGHT, WIDTH, TALL = 8, 12, 16
HIGH, WIDE = 4, 6
"""In tokens of two latent pixels."""
HOSTS = [
    ("flux", "offset", Shift(1), 1),
    ("flux", "index", Shift(1), 2),
    ("flux", "uxo", Shift(0, HIGH, WIDE), 0),
    ("flux2", "index", Shift(1), 2),
    ("flux2", "offset", Shift(0.1), 0),
    ("qwen", "index", Shift(1), 2),
    ("qwen", "offset", Shift(1), 1),
    ("qwen", "negative_index", Shift(-1), 0),
    ("krea2", "index", Shift(1), 2),
]
"""Families with the host's ways to place references, the place of the first one, and how many indices two of them take.

test_places.py has these places by the network's own keys.
"""


class Keys:
    """Another pack's override, which keeps the keys of the first block where more than the call's own come."""

    def __init__(self):
        self.found: list[torch.Tensor] = []

    def __call__(self, func, q, k, v, heads, *args, **kwargs):
        options = kwargs["transformer_options"]
        if options.get("block_index") == 0 and options.get("block_type") in ("double", "single"):
            flat = k.transpose(1, 2).flatten(2) if kwargs.get("skip_reshape") else k.flatten(2)
            self.found.append(flat)
        return func(q, k, v, heads, *args, **kwargs)

    def on(self, model):
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = self
        return clone


def recorded(dit: str, method: str, height: int = HEIGHT, **settings) -> tuple[torch.Tensor, ...]:
    """Keys of two references of the host and of ours, whose contents are the same, each [1, tokens, channels].

    height: of all three. The first layer's key of a token tells its content and its place.
    """
    keys, model = Keys(), network(dit)
    ours = Reference(tiny_dits.latent(dit, 1, height, WIDTH, 20), TEXT, NOISED, 20)
    # At the only noise level of the run, the highest, it is its noise.
    noise = noised_source(model, ours.latent, ours.seed, "Node").at(1.0)
    ((features, rest),) = TEXT
    given = [model.model.process_latent_out(noise)] * 2
    edited = [[features, {**rest, "reference_latents": given, "reference_latents_method": method}]]
    patched = retouched(keys.on(model), [ours], attention=APPEND, **settings)
    tiny_dits.run_ksampler(patched, dit, edited, TEXT, empty(dit), steps=1, cfg=1.0)
    longest = max(keys.found, key=lambda k: k.shape[1])
    high, wide = family_of(model, "Test").grid((height, WIDTH))
    return longest[:, -3 * high * wide :].chunk(3, 1)


def empty(dit: str, rows: int = 1) -> dict:
    return {"samples": torch.zeros_like(tiny_dits.latent(dit, rows, HEIGHT, WIDTH)["samples"])}


def between(dit: str, start: Shift, end: Shift, keys: torch.Tensor) -> torch.Tensor:
    """Keys at one place, moved to another. Flux.2 has tokens of one pixel."""
    family, size = family_of(network(dit), "Test"), 2 if dit == "flux2" else 1
    amounts = [b - a for a, b in zip(start, end, strict=True)]
    rotation = family.rotation(Shift(amounts[0], size * amounts[1], size * amounts[2]), keys.device)
    return keys if rotation is None else rotated(keys, rotation, family.halves)


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("dit", "method", "of_host", "taken"), HOSTS, indirect=["dit"])
@pytest.mark.parametrize("mode", [SEQUENTIAL, BATCHED])
def test_further_pictures_come_after_the_hosts(dit, method, of_host, taken, mode):
    first, second, ours = recorded(dit, method, positions=INDEX, mode=mode)
    assert same(between(dit, of_host, Shift(taken + 1), first), ours)
    assert not same(ours, first) and not same(ours, second)


@pytest.mark.parametrize(("dit", "method", "of_host", "taken"), HOSTS, indirect=["dit"])
def test_pictures_beside_stay_beside(dit, method, of_host, taken):
    first, second, ours = recorded(dit, method, positions=BESIDE)
    assert same(between(dit, of_host, Shift(right=WIDE), first), ours)
    assert not same(ours, first) and not same(ours, second)


def test_tall_pictures_stand_right_of_the_hosts_diagonal():
    first, _, ours = recorded("flux", "uxo", TALL, positions=BESIDE)
    assert same(between("flux", Shift(0, HIGH, WIDE), Shift(right=3 * WIDE), first), ours)


@pytest.mark.parametrize(("dit", "method", "of_host", "taken"), HOSTS, indirect=["dit"])
def test_members_of_a_set_come_after_the_hosts(dit, method, of_host, taken):
    keys, model = Keys(), network(dit)
    picture = tiny_dits.latent(dit, 1, HEIGHT, WIDTH, 20)["samples"]
    given = {"reference_latents": [picture] * 2, "reference_latents_method": method}
    texts = [[[text[0][0], {**text[0][1], **given}]] for text in (TEXT, OTHER)]
    guider = guider_of_set(keys.on(model), texts=texts, positions=INDEX, cfg=1.0)
    sample_set(guider, empty(dit), pictures=2, seeds=[3, 4], **SCHEDULE)
    high, wide = family_of(model, "Test").grid((HEIGHT, WIDTH))
    count, longest = high * wide, max(k.shape[1] for k in keys.found)
    # A picture's own keys come first, and those of the other last.
    one, other = [k for k in keys.found if k.shape[1] == longest][:2]
    assert same(between(dit, Shift(), Shift(taken + 1), other[:, :count]), one[:, -count:])
    assert same(between(dit, Shift(), Shift(taken + 1), one[:, :count]), other[:, -count:])
