"""Parsers of foreign texts: seeds are taken, and what a fuzzer found is refused in one sentence."""

import folder_paths
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from likeness.tests.patching.host.parsers import PARSERS

FOUND = {
    "names": ("//" + "\udcfa" * 300, "../" + "x\n" * 300),
    "blocks": ("input" + "1" * 5000, "output0-" + "9" * 5000),
    "points": ("nan,1", "1,inf"),
}
"""Texts that a parser once mistook."""


@pytest.fixture(scope="module", autouse=True)
def output(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("output"))
        patch.setattr(folder_paths, "get_output_directory", lambda: folder)
        yield


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_taken(name):
    assert all(PARSERS[name].check(seed) for seed in PARSERS[name].seeds())


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_what_was_found_is_refused(name, text):
    assert not PARSERS[name].check(text)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_text_is_taken_or_refused_in_a_sentence(name, data):
    seeds = PARSERS[name].seeds()
    seed = data.draw(st.sampled_from(seeds))
    place, end = sorted((data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, len(seed)))))
    PARSERS[name].check(seed[:place] + data.draw(st.text(max_size=12)) + seed[end:])
