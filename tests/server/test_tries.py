"""The workflows of the template browser that need no files, over HTTP."""

import pytest
from likeness.tests import workflows
from likeness.tests.server.prompts import pictures


@pytest.mark.parametrize("name", [name for name in workflows.TEMPLATES if name.startswith("0")])
def test_a_try_draws_pictures(client, workflow, name):
    prompt = workflow(name)
    (number,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
    drawn = pictures(client, client.run(prompt), number)
    assert len(drawn) == 2 and all(picture.shape == (128, 128, 3) and picture.std() > 1 for picture in drawn)
