"""Inputs that belong to another model than a transformer."""

import pytest
import torch
from likeness.patching.host.checks import check_text, image_latent
from likeness.tests.patching.tiny_dits import WITH_FRAMES, conditioning, latent, tiny_dit


def test_latents_get_the_models_frame_axis(dit):
    samples = latent(dit)["samples"]
    flat = {"samples": samples[:, :, 0] if dit in WITH_FRAMES else samples}
    assert torch.equal(image_latent(tiny_dit(dit), flat, "Node"), samples)
    with pytest.raises(ValueError, match=r"Node: expected a LATENT of .* channels, as the model has, got 4"):
        image_latent(tiny_dit(dit), {"samples": torch.ones(1, 4, 8, 8)}, "Node")


@pytest.mark.parametrize("dit", ["flux", "flux2", "chroma", "qwen", "zimage", "lumina2"], indirect=True)
def test_text_of_another_family_is_refused(dit):
    model = tiny_dit(dit)
    check_text(model, conditioning(), "prompt", "Node")
    with pytest.raises(ValueError, match="whose features are 24 wide, got 25; connect a prompt made"):
        check_text(model, [[torch.zeros(1, 7, 25), {}]], "prompt", "Node")
