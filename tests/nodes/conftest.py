"""Fixtures: the node classes, and a weights folder with random weights in place of missing files."""

import shutil

import pytest
from likeness.nodes import node_classes
from likeness.patching.tinyland import model as tinyland
from likeness.tests.random_weights import fill


def pytest_generate_tests(metafunc):
    if "node" in metafunc.fixturenames:
        nodes = node_classes()
        metafunc.parametrize("node", nodes, ids=[n.__name__ for n in nodes])


@pytest.fixture(scope="session")
def filled_weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled") / "weights"
    if tinyland.WEIGHTS.exists():
        shutil.copytree(tinyland.WEIGHTS, folder)
    fill(folder)
    return folder


@pytest.fixture
def weights(filled_weights, tmp_path, monkeypatch):
    """A private copy of the weights folder, complete, used by the nodes."""
    folder = tmp_path / "weights"
    shutil.copytree(filled_weights, folder)
    monkeypatch.setattr(tinyland, "WEIGHTS", folder)
    return folder
