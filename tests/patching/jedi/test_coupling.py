"""Coupled attention inside a network: chunks of queries, hidden tokens, blended queries."""

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.host.tokens import Tokens
from likeness.patching.jedi.coupling import Chunks, Coupling
from likeness.tests.patching.jedi.joint_runs import STEPS, guider_of, reference, run, sampled
from likeness.tests.patching.layout_and_retouch.retouch_runs import close
from likeness.tests.patching.tiny_models import tiny_model


@pytest.mark.parametrize("most", [64, 100, 191])
def test_sets_larger_than_memory_are_attended_in_chunks(most, monkeypatch):
    model = tiny_model("sd1")
    expected = run(model, references=[reference(model)])
    original, longest = Chunks.attend, []

    def attend(self, attention, q, k, v):
        def small(q, k, v, long):
            if q.shape[1] > most:
                raise comfy.model_management.OOM_EXCEPTION("test")
            longest.append(q.shape[1])
            return attention(q, k, v, long=long)

        return original(self, small, q, k, v)

    monkeypatch.setattr(Chunks, "attend", attend)
    close(run(model, references=[reference(model)]), expected)
    assert 32 <= max(longest) <= most


def test_out_of_memory_for_good_is_not_hidden(monkeypatch):
    def attention(q, k, v, long):
        raise comfy.model_management.OOM_EXCEPTION("test")

    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        Chunks().attend(attention, torch.zeros(1, 300, 4), torch.zeros(1, 300, 4), torch.zeros(1, 300, 4))


def test_masked_references_by_hand():
    """A row attends to its own keys and to the visible keys of others; masked tokens are hidden from others."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 16, 8)
    visible = [None, torch.tensor([1, 5, 6])]

    def attention(q, k, v, long=False):
        return torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v

    made = Coupling("test", 2, visible=lambda *_: visible).attend(None, q, k, v, attention, Tokens((4, 4)))
    seen = torch.cat([k[0], k[1, [1, 5, 6]]]), torch.cat([v[0], v[1, [1, 5, 6]]])
    torch.testing.assert_close(made[0], attention(q[0][None], seen[0][None], seen[1][None])[0])
    everything = torch.cat([k[0], k[1]]), torch.cat([v[0], v[1]])
    torch.testing.assert_close(made[1], attention(q[1][None], everything[0][None], everything[1][None])[0])


def test_what_divides_attention_is_refused():
    coupling = Coupling("test", 2)
    with pytest.raises(ValueError, match="test: expected 2 pictures of 16 positions in attention, got 4 of 4"):
        coupling.attend(None, *[torch.zeros(4, 4, 8)] * 3, None, Tokens((4, 4)))


def test_the_blend_of_queries_by_hand():
    own, alone = torch.randn(3, 5, 2), torch.randn(2, 5, 2)
    queries, keys, values = Coupling("test", 3, vanilla={"layer": alone}, blend=0.25).inputs(
        "layer", own, own, own, Tokens((5, 1))
    )
    torch.testing.assert_close(queries[:2], 0.75 * own[:2] + 0.25 * alone)
    assert torch.equal(queries[2:], own[2:]) and keys is own and values is own


def test_dropped_tokens_are_others_at_every_level():
    model = tiny_model("sd1")
    guider = guider_of(model, references=[reference(model)], token_dropout=0.5)
    seen = {}

    def spy(executor, x, t, concat, text, control, options, **kwargs):
        for hook in options.get("patches_replace", {}).get("attn1", {}).values():
            seen[float(t[0])] = hook.change.visible((8, 8), x.device)
        return executor(x, t, concat, text, control, options, **kwargs)

    guider.model_patcher.add_wrapper(WrappersMP.APPLY_MODEL, spy)
    sampled(guider, {"samples": torch.zeros(1, 4, 8, 8)}, steps=STEPS)
    levels = list(seen.values())
    assert len(levels) == STEPS
    assert all([len(t) for t in visible] == [32, 32, 32] for visible in levels) and all(
        t.unique().numel() == 32 for visible in levels for t in visible
    )
    assert levels[0][0].tolist() != levels[0][1].tolist() and levels[0][0].tolist() != levels[1][0].tolist()
