"""A masked reference beside token merging, which leaves fewer queries than the mask has tokens."""

import asyncio

import pytest
import torch
from comfy_extras.nodes_tomesd import TomePatchModel
from likeness.patching.features.lending import BANKED, SEQUENTIAL
from likeness.tests.patching.layout_and_retouch.retouch_runs import disc, reference, retouched, run
from likeness.tests.patching.tiny_models import tiny_model


def merged(model):
    made = TomePatchModel.execute(model, 0.3)
    made = asyncio.run(made) if asyncio.iscoroutine(made) else made
    return made.args[0]


@pytest.mark.parametrize("mode", [BANKED, SEQUENTIAL])
@pytest.mark.parametrize("attention", ["append", "replace"])
def test_a_masked_reference_works_beside_token_merging(mode, attention):
    plain = merged(tiny_model("sd1"))
    patched = retouched(
        plain,
        [reference(plain, mask=disc()[0])],
        ("output10", "output11"),
        mode=mode,
        attention=attention,
        lambda_2=0,
        lambda_3=0,
    )
    found = run(patched, steps=2)
    assert found.isfinite().all()
    assert not torch.allclose(found, run(plain, steps=2), atol=1e-4)
