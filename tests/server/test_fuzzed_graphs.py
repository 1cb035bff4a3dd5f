"""Graphs that `run.py bench fuzz` draws are well formed by the running host's own schemas."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from likeness.benchmarks.fuzz.builder import families_of, sockets
from likeness.benchmarks.fuzz.graphs import METHODS, cases, is_ours, kinds_of
from likeness.benchmarks.fuzz.prompts import is_link, links_of
from likeness.benchmarks.fuzz.twins import runs, twins


@pytest.fixture(scope="module")
def schemas(client):
    return client.object_info()


MODELS = {f"LikenessDemo{name}" for name in ("Model", "Subject", "JointModel", "Transformer")}
MODELS |= {"LikenessLoadJointCheckpoint"}


def check_form(prompt, schemas):
    """Raises AssertionError for a missing input, a link of another type, and a link to a later node."""
    for node, entry in prompt.items():
        schema = schemas[entry["class_type"]]
        assert {n for n, (_, needed) in sockets(schema).items() if needed} <= entry["inputs"].keys(), (node, entry)
        for name, (source, output) in links_of(entry).items():
            type_ = sockets(schema)[name][0]
            given_type = schemas[prompt[source]["class_type"]]["output"][output]
            assert given_type in str(type_), (entry["class_type"], name, given_type, type_)
            assert int(source) < int(node)


def test_drawn_graphs_are_well_formed(schemas):
    seen = set()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(method, data):
        case = data.draw(cases(schemas, (method,)))
        check_form(case.prompt, schemas)
        seen.update(kinds_of(case))
        assert any(is_link(v) for v in case.prompt[max(case.prompt, key=int)]["inputs"].values())
        for twin in [twin for run in runs(case.prompt) for twin in twins(case.prompt, run)]:
            check_form(twin, schemas)
            assert {entry["class_type"] for entry in twin.values() if is_ours(entry["class_type"])} <= MODELS

    for method in METHODS:
        check(method=method)
    ours = {name for name in schemas if is_ours(name)}
    assert ours <= seen, ours - seen
    assert set(families_of(schemas)) <= seen
