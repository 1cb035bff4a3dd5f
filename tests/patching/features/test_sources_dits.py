"""Pictures in the runs of diffusion transformers: their noise, their frame axis, and their rows beside the target's."""

from dataclasses import dataclass, replace

import pytest
import torch
from likeness.patching.features.source_rows import SourceRows, call_of, call_with, calls_of
from likeness.patching.features.sources import noised_source
from likeness.patching.host.attach import attach
from likeness.patching.host.passes import call_arguments
from likeness.patching.host.run import Call
from likeness.patching.host.window import ALWAYS
from likeness.tests.patching.tiny_dits import WITH_FRAMES, conditioning, latent, run_ksampler, tiny_dit
from likeness.tests.patching.tiny_models import conditioning as unet_conditioning
from likeness.tests.patching.tiny_models import run_ksampler as run_unet
from likeness.tests.patching.tiny_models import tiny_model


@dataclass(frozen=True, eq=False)
class Asking:
    """A patch that shows every call to `ask`."""

    ask: object
    node = "Node"
    window = ALWAYS

    def __call__(self, call, forward):
        return self.ask(call, forward)


def test_noised_is_what_the_sampler_starts_from(dit):
    model, seen = tiny_dit(dit), []

    def keep(call: Call, forward):
        seen.append((call.sigma, call.x[:1].clone()))
        return forward(call)

    image = latent(dit, 1, 7, 9)
    run_ksampler(attach(model, Asking(keep)), dit, latent_image=image, seed=7, denoise=0.5, steps=2, cfg=1.0)
    sigma, x = seen[0]
    given = {"samples": image["samples"].squeeze(2)} if dit in WITH_FRAMES else image
    assert given["samples"].ndim == 4
    torch.testing.assert_close(noised_source(model, given, 7, "Node").at(sigma), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dit", WITH_FRAMES, indirect=True)
def test_a_video_is_no_picture(dit):
    with pytest.raises(ValueError, match=r"^Node: expected a LATENT of images, got a video of 3 frames"):
        noised_source(tiny_dit(dit), {"samples": torch.ones(1, 16, 3, 8, 8)}, 0, "Node")


def rows_of(call: Call, tokens: int, seed: int) -> SourceRows:
    x = call.x[:1].flip(-1)
    return SourceRows("other", True, x, call_arguments(call.model, conditioning(tokens=tokens, seed=seed), x, True))


def test_rows_of_other_pictures_in_one_call_and_in_their_own(dit):
    found = []

    def ask(call: Call, forward):
        sources = [rows_of(call, 7, 5), rows_of(call, 7, 6)]
        joint = call_with(call, sources)
        assert joint is not None
        shared = forward(joint)
        own = call_of(call, sources)
        found.append((shared[: len(call.x)], forward(call)))
        found.append((shared[len(call.x) :], forward(replace(own, x=torch.cat([s.latents for s in sources])))))
        return found[0][1]

    run_ksampler(attach(tiny_dit(dit), Asking(ask)), dit, steps=1, latent_image=latent(dit, 1, 7, 9))
    for shared, alone in found:
        torch.testing.assert_close(shared, alone, rtol=1e-3, atol=1e-3 * float(alone.std()))


def test_text_is_never_repeated_where_it_joins_the_picture(dit):
    """Flux.2 alone pads every prompt to one length."""
    made = []

    def ask(call: Call, forward):
        sources = [rows_of(call, 7, 5), rows_of(call, 14, 6)]
        made.append((call_with(call, sources), calls_of(call, sources)))
        return forward(call)

    run_ksampler(attach(tiny_dit(dit), Asking(ask)), dit, steps=1)
    ((joint, calls),) = made
    assert (joint is not None, len(calls)) == ((True, 1) if dit == "flux2" else (False, 2))


def test_a_u_net_repeats_the_shorter_text():
    made = []

    def ask(call: Call, forward):
        texts = [unet_conditioning(None, tokens=n, seed=5) for n in (7, 14)]
        rows = [SourceRows("other", True, x := call.x[:1], call_arguments(call.model, t, x, True)) for t in texts]
        made.append(call_with(call, rows))
        return forward(call)

    run_unet(attach(tiny_model("sd1"), Asking(ask)), steps=1)
    assert made[0].arguments["c_crossattn"].shape[1] == 14
