"""The identity of a run's model, which reads all of its weights, is computed once per run."""

import pytest
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import INVERTED
from likeness.patching.host import identity
from likeness.tests.patching.jedi import joint_runs
from likeness.tests.patching.layout_and_retouch import retouch_runs
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.pick_and_draw.guidance_runs import SIDE
from likeness.tests.patching.two_models import twins

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.fixture
def digests(monkeypatch):
    """A list that gets the model of each digest of weights."""
    seen, add = [], identity._add_weights

    def counted(fingerprint, model):
        seen.append(model)
        add(fingerprint, model)

    monkeypatch.setattr(identity, "_add_weights", counted)
    return seen


def retouched(model, mode=SEQUENTIAL):
    layout, *references = (retouch_runs.reference(model, seed, SIDE, SIDE, INVERTED) for seed in (20, 21, 22))
    return retouch_runs.retouched(model, references, mode=mode, layout=layout)


def guided(model):
    return guidance_runs.guided(model, guidance_runs.palette(model), guidance_runs.recorded())[0]


PATCHES = {
    "batched": lambda model: retouched(model, BATCHED),
    "sequential": retouched,
    "banked": lambda model: retouched(model, BANKED),
    "guided": guided,
    "both": lambda model: guided(retouched(model)),
}


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("patch", PATCHES)
def test_a_run_reads_the_weights_once(digests, patch, steps):
    patched = PATCHES[patch](guidance_runs.model_of())
    for run in (1, 2):
        digests.clear()
        guidance_runs.run(patched, steps=steps)
        assert len(digests) == 1, run


@pytest.mark.parametrize("steps", [2, 5])
def test_runs_that_keep_nothing_read_no_weights(digests, steps):
    model = guidance_runs.model_of()
    joint_runs.run(model, references=[joint_runs.reference(model)], steps=steps)
    retouch_runs.layout(*twins(), switch=1, steps=steps, record="decoder")
    assert not digests
