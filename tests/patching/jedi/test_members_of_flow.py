"""Known members of a set under a flow model: the host's mixture of picture and noise."""

import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from likeness.patching.features.references import NOISED, Reference
from likeness.patching.jedi.members import fitted
from likeness.patching.jedi.run import FIXED, FRESH, NEVER, JointRun, JointSettings
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


def test_members_are_noised_as_the_host_does():
    model = ModelSamplingSD3().patch(tiny_model("sdxl"), shift=3.0)[0]
    item = Reference(latent(), conditioning(model), NOISED, 0)
    clean = model.model.process_latent_in(latent()["samples"])
    generated = torch.zeros(1, 4, 8, 8)
    for kind in (FRESH, FIXED, NEVER):
        run = JointRun(
            model,
            settings=JointSettings(reference_noise=kind),
            references=[item],
            members=[fitted(item, 8, 8, "Node")],
            count=1,
            sets=1,
            seed=3,
        )
        for sigma in (1.0, 0.5, 0.02):
            known = run.with_references(generated, sigma)[1:]
            if kind == NEVER:
                # Denoised to the picture itself, the next level is the picture with less of the same noise.
                run.keep(sigma, known, clean, preferred=True)
            noise = (known - (1 - sigma) * clean) / sigma
            assert 0.8 < float(noise.std()) < 1.2 and abs(float((noise * clean).mean())) < 0.3
