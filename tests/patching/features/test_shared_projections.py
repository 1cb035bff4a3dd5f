"""Keys and values of a reference are made once for all pictures of a batch that look at it."""

import pytest
import torch
from likeness.patching.features.lending import SEQUENTIAL
from likeness.patching.features.shared_attention import _put_together, _shared_out
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, reference, retouched, run
from likeness.tests.patching.tiny_models import tiny_model


@pytest.mark.parametrize(("chunks", "spread", "tokens"), [(1, 2, 8), (2, 3, 7), (2, 1, 5), (1, 4, 3)])
def test_projecting_parts_is_projecting_all(chunks, spread, tokens):
    features, own = torch.randn(chunks, tokens, 6), torch.randn(chunks * spread, 4, 6)
    weight = torch.randn(5, 6)
    parts = torch.cat([own, _shared_out(features, spread)], 1)
    whole = torch.cat([own, features.repeat_interleave(spread, 0)], 1)
    torch.testing.assert_close(_put_together(parts @ weight.T, tokens, spread), whole @ weight.T)
    assert parts.shape[1] == 4 + -(-tokens // spread)


@pytest.mark.parametrize(("attention", "cfg"), [("replace", 4.0), ("append", 1.0)])
def test_a_batch_projects_a_reference_once(attention, cfg):
    model = tiny_model("sd1", seed=44)
    seen = []
    layer = model.model.diffusion_model.output_blocks[11][1].transformer_blocks[0].attn1.to_k
    subject = torch.zeros(64, 64)
    subject[8:56, 8:32] = 1
    patched = retouched(model, [reference(model, mask=subject)], attention=attention, lambda_2=0, mode=SEQUENTIAL)
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[:2]))
    four = run(patched, batch=4, steps=1, cfg=cfg)
    handle.remove()
    tokens, own = 6 * 3, 64 if attention == "append" else 0
    # The reference's own call comes first.
    assert seen[-1] == (4 if cfg == 1 else 8, own + -(-tokens // 4))
    close(four[:1], run(patched, batch=1, steps=1, cfg=cfg)[:1])
