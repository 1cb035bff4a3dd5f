"""A second picture's subject inpainted with references of its own (JeDi, arXiv 2407.06187, section 8)."""

import torch
from likeness.tests.patching.jedi.joint_runs import guider_of, reference, sampled
from likeness.tests.patching.tiny_models import latent, tiny_model


def test_a_noise_mask_keeps_the_rest_and_lets_references_act_inside():
    model = tiny_model("sd1")
    inside = torch.zeros(1, 1, 8, 8)
    inside[..., 4:] = 1
    given = {**latent(1), "noise_mask": inside}
    first, second, none = (
        sampled(guider_of(model, references=items), given)
        for items in ([reference(model, seed=20)], [reference(model, seed=21)], [])
    )
    assert first.shape[0] == 2
    for found in (first, second, none):
        torch.testing.assert_close(found[..., :4], given["samples"].expand_as(found)[..., :4], rtol=0, atol=1e-5)
    for other in (second, none):
        assert float((first - other)[..., 4:].norm() / first[..., 4:].norm()) > 1e-2
