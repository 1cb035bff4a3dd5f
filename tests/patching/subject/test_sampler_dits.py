"""LikenessSampler on tiny diffusion transformers: every method acts, and likeness 0 is KSampler's picture."""

import pytest
import torch
from likeness.nodes import LikenessSampler
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.pick_and_draw.guidance_runs import encoded
from likeness.tests.patching.subject.subjects import mask, photo, prompt_of, subject_of

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
METHODS = {"retouch": "own layout", "joint": "vanilla template", "palette guidance": "own layout"}
SAMPLING = {"seed": 5, "steps": 4, "cfg": 1.0, "sampler": "euler", "scheduler": "simple"}


class Averages:
    """A VAE that makes pictures smaller, for latents of any family."""

    def __init__(self, dit: str):
        self.ratio, self.channels = (16, 128) if dit == "flux2" else (8, 16)
        self.frames = dit in tiny_dits.WITH_FRAMES
        self.latent_channels = self.channels

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), self.ratio)
        made = small.repeat(1, self.channels, 1, 1)[:, : self.channels]
        return made.unsqueeze(2) if self.frames else made

    def decode(self, samples):
        flat = samples[:, :, 0] if samples.ndim == 5 else samples
        return torch.nn.functional.interpolate(flat[:, :3], scale_factor=self.ratio).movedim(1, -1)


def sampled(dit: str, method: str, likeness: float = 1.0, **changes) -> tuple[torch.Tensor, str]:
    side = 128 if dit == "flux2" else 64
    made = LikenessSampler.execute(
        **{
            "model": tiny_dits.tiny_dit(dit),
            "vae": Averages(dit),
            "subject": subject_of(photo(1, side, side), masks={"mask0": mask(side)}),
            "subject_prompt": prompt_of(token=False),
            "latent": {"samples": torch.zeros_like(tiny_dits.latent(dit)["samples"])},
            "method": method,
            "likeness": likeness,
            "layout": METHODS[method],
            **SAMPLING,
            **changes,
        }
    )
    return made.args[0]["samples"], made.args[1]


def plain(dit: str) -> torch.Tensor:
    empty = {"samples": torch.zeros_like(tiny_dits.latent(dit)["samples"])}
    settings = {"seed": 5, "steps": 4, "cfg": 1.0, "sampler": "euler", "scheduler": "simple"}
    positive = prompt_of(token=False).personalized_conditioning
    return tiny_dits.run_ksampler(tiny_dits.tiny_dit(dit), dit, positive, encoded(""), empty, **settings)


def test_photographs_alone_change_the_picture(dit):
    found, report = sampled(dit, "retouch")
    before = plain(dit)
    assert torch.isfinite(found).all() and not torch.allclose(found, before, rtol=1e-3)
    assert torch.equal(sampled(dit, "retouch", likeness=0.0)[0], before)
    assert "retouch (Layout-and-Retouch)" in report


@pytest.mark.parametrize("dit", ["flux", "qwen"], indirect=True)
@pytest.mark.parametrize("method", ["joint", "palette guidance"])
def test_other_methods(dit, method):
    found, report = sampled(dit, method)
    assert torch.isfinite(found).all() and not torch.allclose(found, plain(dit), rtol=1e-3)
    assert method != "joint" or f"coupled in {'single0-2' if dit == 'flux' else 'late'} blocks" in report


@pytest.mark.parametrize("dit", ["flux", "zimage", "anima"], indirect=True)
def test_a_retouch_follows_the_vanilla_models_layout(dit):
    personalized = tiny_dits.tiny_dit(dit, seed=4)
    given = {"personalized_model": personalized, "layout": "vanilla template", "subject_prompt": prompt_of()}
    found, report = sampled(dit, "retouch", **given)
    assert torch.isfinite(found).all()
    assert "decided by the vanilla model in the first 1 of 4 steps" in report
    assert not torch.allclose(found, sampled(dit, "retouch", **given | {"likeness": 0.5})[0], rtol=1e-3)
