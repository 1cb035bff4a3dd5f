"""Pictures of a run: one of one node, or a strip of all pictures of some nodes."""

import numpy as np
import pytest
from likeness.demo.launcher.client import Failed
from likeness.lab.farm import strips
from likeness.lab.farm.servers import Server
from likeness.tests.lab.farm.stand_in import png_of

SHOWN = {"1": 1, "2": 3, "3": 0}
GRAPH = {node: {"class_type": "PreviewImage", "inputs": {}} for node in SHOWN}


class Client:
    """Client of a server whose nodes show as many pictures as SHOWN says, each of one level."""

    def run(self, graph, timeout, turn):
        return self

    def images(self, node):
        return [{"node": node, "number": number} for number in range(SHOWN[node])]

    def image(self, record):
        return png_of(np.full((4, 4, 3), 10 * int(record["node"]) + record["number"], np.uint8))


@pytest.fixture
def server():
    made = Server("127.0.0.1:1")
    made.client = Client()  # pyright: ignore[reportAttributeAccessIssue]
    return made


@pytest.mark.parametrize(("nodes", "levels"), [(["2"], [[20, 21, 22]]), (["1", "2"], [[10], [20, 21, 22]])])
def test_a_strip_has_all_pictures_of_one_node_or_of_several(server, nodes, levels):
    found = strips.parted(server.draw(GRAPH, strips.strip_of(nodes), 1.0))
    assert [[int(picture[0, 0, 0]) for picture in shown] for shown in found] == levels


def test_a_node_without_a_strip_has_one_picture(server):
    assert server.draw(GRAPH, "1", 1.0) == png_of(np.full((4, 4, 3), 10, np.uint8))
    with pytest.raises(Failed, match="expected one picture, got 3; set the batch size to 1"):
        server.draw(GRAPH, "2", 1.0)


def test_a_node_of_a_strip_that_shows_nothing_is_one_sentence(server):
    with pytest.raises(Failed, match=r"PreviewImage \(node 3\): expected pictures, got none"):
        server.draw(GRAPH, strips.strip_of(["2", "3"]), 1.0)
