import time

import pytest
from likeness.tests import workflows
from likeness.tests.server.prompts import only


@pytest.fixture
def workflow():
    """Reads a shipped API workflow, shortened to a few steps and two pictures."""
    return lambda name: workflows.shortened(workflows.api(name))


@pytest.fixture(scope="session")
def stored(client, host):
    """stored(workflow, file): the path, below output/, of what a saving workflow writes, which runs once for all."""
    contents = {}

    def store(name: str, file: str):
        path = host.base / "output" / file
        if name not in contents:
            client.run(workflows.shortened(workflows.api(name)))
            contents[name] = path.read_bytes()
        path.write_bytes(contents[name])
        return path

    return store


@pytest.fixture
def still_serving(client, workflow):
    """Checks after the test that the server still draws a picture."""
    yield
    prompt = workflow("demo_model")
    only(prompt, "KSampler").update(seed=time.time_ns() % 10**9, steps=1)
    only(prompt, "EmptyLatentImage").update(batch_size=1, width=64, height=64)
    assert client.run(prompt).images()
