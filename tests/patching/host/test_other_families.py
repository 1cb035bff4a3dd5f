"""VAEs and LoRAs of other families than the model's."""

import comfy.sd
import pytest
import torch
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host.window import ALWAYS
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import NONE, RetouchSettings
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.jedi.joint_runs import guider_of
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of, made
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


class Vae:
    """A VAE that encodes gray pictures, with a number of latent channels."""

    def __init__(self, channels: int):
        self.latent_channels = channels

    def encode(self, pixels):
        assert self.latent_channels == 4, "another family's VAE is used"
        return torch.ones(len(pixels), 4, pixels.shape[1] // 8, pixels.shape[2] // 8)


def pictures(model, vae) -> References:
    image = torch.full((1, 64, 64, 3), 0.5)
    return References((Reference(None, conditioning(model), NOISED, 1, image=image, vae=vae),))


USES = {
    "retouch": lambda model, vae: retouch(
        model, pictures(model, vae), None, None, RetouchSettings(early_swap=NONE, lambda_2=0)
    ),
    "set": lambda model, vae: guider_of(model, references=pictures(model, vae).items),
    "palette": lambda model, vae: made(model, image=torch.full((1, 128, 128, 3), 0.5), vae=vae, latent=None),
    "maps": lambda model, vae: word_maps(
        model,
        clip_of(),
        latent(),
        text="a cat",
        word="cat",
        blocks="all",
        group_by="together",
        window=ALWAYS,
        levels=1,
        seed=0,
        vae=vae,
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_vae_with_other_channels_is_refused_before_anything_runs(use):
    with pytest.raises(
        ValueError, match=r"^[\w -]+: expected a VAE of 4 latent channels, .*, got one of 16; connect this"
    ):
        USES[use](tiny_model("sd1"), Vae(16))


def test_a_vae_of_as_many_channels_passes():
    for use in ("retouch", "set"):
        USES[use](tiny_model("sd1"), Vae(4))


def test_a_lora_of_another_family_is_told():
    """The host loads none of its keys, so the model stays the vanilla one."""
    vanilla = tiny_model("sd1")
    name = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn9_to_q"
    lora = {f"{name}.lora_up.weight": torch.ones(64, 4), f"{name}.lora_down.weight": torch.ones(4, 64)}
    personalized, _ = comfy.sd.load_lora_for_models(vanilla, None, lora, 1.0, 1.0)
    guider = StepBlendedGuider(vanilla, personalized, Switch(percent=0.5))
    with pytest.raises(ValueError, match=r"same weights and the same conditioning; .* made for this checkpoint"):
        guider.set_blended_conds(conditioning(vanilla), conditioning(vanilla), conditioning(vanilla, seed=3))
    guider.set_blended_conds(conditioning(vanilla), conditioning(vanilla, seed=2), conditioning(vanilla, seed=3))
    assert any("Both models have the same weights" in sentence for sentence in guider.notices.sentences)
