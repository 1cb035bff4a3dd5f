"""What `run.py bench fuzz` does with graphs on the running ComfyUI."""

from collections import Counter

import pytest
from likeness.benchmarks.fuzz.campaign import Judge, search
from likeness.benchmarks.fuzz.oracle import PICTURE, SENTENCE, Oracle
from likeness.benchmarks.fuzz.prompts import needed, nodes_of
from likeness.benchmarks.fuzz.server import REJECTED, WITHHELD, Server, write_files

ONE_MILLION, GRAPHS = 10**6, 100


@pytest.fixture(scope="module")
def server(host):
    return Server(host)


def test_a_campaign_finds_no_fault(server):
    """Drawn graphs of every method, on the demo model and on tiny ones of every family."""
    write_files(server)
    judge, found = Judge(Oracle(server, renewed_every=ONE_MILLION)), []
    search(judge, server.schemas, 0, GRAPHS, lambda fault, case: found.append((fault, case)))
    assert not found, found
    ended = Counter(verdict.ended for verdict in judge.verdicts)
    assert ended.total() >= GRAPHS - 5 and ended[PICTURE] > GRAPHS // 3 and ended[SENTENCE] > GRAPHS // 20, ended


def test_a_server_tells_how_a_graph_ends(server, workflow):
    prompt = workflow("likeness_sampler")
    (node,) = nodes_of(prompt, "LikenessSampler")
    prompt["1000"] = {"class_type": "FuzzResult", "inputs": {"latent": [node, 0]}}
    prompt = needed(prompt)
    (node,) = nodes_of(prompt, "LikenessSampler")
    told = server.run(prompt)
    assert told.facts["finite"] and "guided step" in told.texts[node]
    assert server.run(prompt).ended == told.ended
    prompt[node]["inputs"]["cfg"] = -1
    assert server.run(prompt).kind == REJECTED


def test_what_withholds_a_picture_is_told_again(server):
    """The second run finds every node in the host's cache."""
    shares = {"minimum_area": 0.01, "maximum_area": 0.8}
    nodes = [
        ("FuzzImage", {"width": 64, "height": 64, "count": 1, "seed": 1}),
        ("SolidMask", {"value": 1.0, "width": 64, "height": 64}),
        (
            "LikenessCutOut",
            shares | {"parts": "each mask", "border": "drop", "fill": "black", "image": ["1", 0], "masks": ["2", 0]},
        ),
        ("LikenessDemoModel", {}),
        ("VAEEncode", {"pixels": ["3", 0], "vae": ["4", 2]}),
        ("FuzzResult", {"latent": ["5", 0]}),
    ]
    prompt = {str(number): {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in enumerate(nodes, 1)}
    for _ in range(2):
        told = server.run(prompt)
        assert told.kind == WITHHELD and told.texts["3"]
