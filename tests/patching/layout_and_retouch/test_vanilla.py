"""The paper's layout path: before lambda_1 the layout's attention is the vanilla model's own."""

from dataclasses import replace

import pytest
import torch
from likeness.patching.features.lending import BATCHED, SEQUENTIAL
from likeness.patching.features.references import References
from likeness.patching.host.notices import Notices
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import FORK, QK_BOTH, QK_SELF, QKV_BOTH, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import NEUTRAL, STEPS, layout, mask, reference, run
from likeness.tests.patching.tiny_models import conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora

pytestmark = pytest.mark.slow


def pair():
    """A model, and one with other projections to queries, keys and values."""
    vanilla = tiny_model("sd1")
    tuned = vanilla.clone()
    generator = torch.Generator().manual_seed(5)
    names = (".to_q.weight", ".to_k.weight", ".to_v.weight")
    weights = {k: w for k, w in vanilla.model.state_dict().items() if k.endswith(names)}
    patches = {k: (torch.randn(w.shape, generator=generator) / w.shape[1] ** 0.5,) for k, w in weights.items()}
    assert tuned.add_patches(patches, 1.0)
    return vanilla, tuned


def patched(tuned, trajectory, vanilla=None, masked=None, notices=None, prompt=None, **settings):
    given = {"early_swap": QKV_BOTH, "lambda_2": STEPS, "lambda_3": STEPS, "mode": SEQUENTIAL, **settings}
    return retouch(
        tuned,
        References((reference(tuned),)),
        trajectory,
        masked,
        RetouchSettings(**given),
        notices=notices,
        vanilla_model=vanilla,
        vanilla_conditioning=prompt,
    )


def apart(a, b) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("sampler", "mode"), [("euler", BATCHED), ("heun", SEQUENTIAL)])
def test_the_target_is_the_layout_where_attention_alone_differs(sampler, mode):
    """The vanilla model's Q, K, V before lambda_1, the personalized model's from there on: nothing else differs."""
    vanilla, tuned = pair()
    picture, trajectory = layout(tuned, vanilla, switch=2, sampler=sampler)
    found = {}
    for name, model in (("own", None), ("vanilla", vanilla)):
        made = patched(tuned, trajectory, model, mode=mode)
        found[name] = apart(run(made, sampler=sampler, prompt=NEUTRAL), picture)
    assert found["vanilla"] < 1e-4 and found["own"] > 10 * found["vanilla"] and found["own"] > 1e-3, found


@pytest.mark.parametrize("settings", [{"early_swap": QK_BOTH}, {"early_swap": QK_SELF}, {"strength": 0.5}], ids=str)
def test_a_part_of_the_attention_follows_the_layout_in_part(settings):
    vanilla, tuned = pair()
    picture, trajectory = layout(tuned, vanilla, switch=STEPS)
    distances = [
        apart(run(patched(tuned, trajectory, vanilla, **s), prompt=NEUTRAL), picture)
        for s in ({"early_swap": QKV_BOTH}, settings)
    ]
    plain = apart(run(tuned, prompt=NEUTRAL), picture)
    assert distances[0] < 1e-4 < distances[1] < plain


def test_blending_before_the_switch_needs_no_record():
    """The vanilla model makes what record_blocks would have kept."""
    vanilla, tuned = pair()
    found, batch = [], 2
    for record, model in (("all", None), ("", vanilla)):
        trajectory = layout(tuned, vanilla, switch=2, record=record, batch=batch)[1]
        made = patched(tuned, trajectory, model, mask(), early_swap=FORK, lambda_2=1, lambda_3=1)
        found.append(run(made, batch=batch))
    assert apart(found[1], found[0]) < 1e-4


def test_the_recorded_prompt_is_the_default():
    vanilla, tuned = pair()
    trajectory = layout(tuned, vanilla, switch=2)[1]
    given = run(patched(tuned, trajectory, vanilla, prompt=conditioning(vanilla, seed=13)))
    assert torch.equal(run(patched(tuned, trajectory, vanilla)), given)
    with pytest.raises(ValueError, match="to vanilla_conditioning"):
        patched(tuned, replace(trajectory, vanilla_positive=[]), vanilla)


def test_other_models_and_idle_ones_are_told():
    vanilla, tuned = pair()
    trajectory = layout(tuned, vanilla, switch=2)[1]
    cases = {
        "connect vanilla_model": {},
        "does not give the answers": {"vanilla": add_lora(vanilla, 2.0)},
        "no effect of vanilla_model": {"vanilla": vanilla, "early_swap": FORK},
    }
    for words, settings in cases.items():
        notices = Notices("test")
        run(patched(tuned, trajectory, notices=notices, **{"lambda_2": 2, "lambda_3": 2, **settings}))
        told = [sentence.casefold() for sentence in notices.sentences]
        assert len(told) == 1 and words in told[0], (words, told)
    for settings in ({"vanilla": vanilla}, {"early_swap": FORK}):
        notices = Notices("test")
        run(patched(tuned, trajectory, notices=notices, **{"lambda_2": 2, "lambda_3": 2, **settings}))
        assert not notices.sentences
