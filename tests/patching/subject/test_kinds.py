"""Likeness Sampler on the kinds of checkpoint that people have, and with parts that do not belong to the checkpoint."""

import comfy.sd
import pytest
import torch
from likeness.tests.patching.kinds import KINDS
from likeness.tests.patching.subject.likeness_runs import PHOTO, SIDE, sampled
from likeness.tests.patching.subject.subjects import Averages, mask, prompt_of, subject_of
from likeness.tests.patching.tiny_models import tiny_model

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
FEW = {"steps": 4, "cfg": 1.0, "scheduler": "sgm_uniform"}
SAMPLING = {"lcm": {**FEW, "sampler": "lcm"}, "turbo": {**FEW, "sampler": "euler_ancestral"}}
METHODS = {
    "palette guidance": "the vanilla model in the first",
    "retouch": "the vanilla model in the first",
    "joint": "the set's own",
}
"""Methods, and the layout that the report names."""


def shown(**masks: torch.Tensor):
    return subject_of(PHOTO, masks=masks, inversion_steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_acts_on_every_kind_of_checkpoint(kind):
    """With the vanilla model's layout, and with few steps at cfg 1 where a checkpoint is made for them."""
    given = {"subject": shown(mask0=mask(8 * SIDE)), "subject_prompt": prompt_of(), **SAMPLING.get(kind, {})}
    model = KINDS[kind]()
    plain, _ = sampled(model, likeness=0.0, method="retouch", **given)
    for method, said in METHODS.items():
        if (kind, method) == ("inpainting", "joint"):
            with pytest.raises(ValueError, match=r"^Likeness Sampler: .* such as an inpainting checkpoint"):
                sampled(model, method=method, **given)
            continue
        found, report = sampled(model, method=method, **given)
        assert torch.isfinite(found).all() and said in report
        assert 1e-3 < float((found - plain).norm() / plain.norm()) < 1


@pytest.mark.parametrize("masks", [{}, {"mask0": mask(8 * SIDE)}], ids=["attention", "mask"])
@pytest.mark.parametrize("method", ["palette guidance", "joint"])
def test_a_vae_of_another_family_is_one_sentence(method, masks):
    vae = Averages()
    vae.latent_channels = 16
    with pytest.raises(ValueError, match=r"^Likeness Sampler: expected a VAE of .*4.*, got one of 16"):
        sampled(vae=vae, method=method, subject=shown(**masks))
    assert not vae.sizes, "refused before anything is encoded"


@pytest.mark.parametrize(
    ("block", "said"),
    [("input_blocks_1_1", "1 of the 1 layers of the LoRA"), ("input_blocks_3_1", "computes the same as model")],
    ids=["other shapes", "other names"],
)
def test_a_lora_of_another_family_is_told(block, said, caplog):
    name, model = f"lora_unet_{block}_transformer_blocks_0_attn2_to_k", tiny_model()
    lora = {f"{name}.lora_up.weight": torch.ones(640, 4), f"{name}.lora_down.weight": torch.ones(4, 2048)}
    personalized, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 1.0)
    sampled(model, personalized_model=personalized, likeness=0.0)
    assert said in caplog.text
