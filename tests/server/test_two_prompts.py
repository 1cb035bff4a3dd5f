"""Prompts of two clients that wait for each other: neither knows of the other, also where one is interrupted."""

import json
import time

import pytest
from likeness.demo.launcher.client import Interrupted, Result
from likeness.tests.server.prompts import only, pictures

SAMPLER, SAVED = "18", "20"


def retouch(workflow, seed: int) -> dict:
    """A retouch of one small picture, from the layout to the mask."""
    prompt = {node: entry for node, entry in workflow("layout_and_retouch").items() if node not in ("21", "22", "23")}
    for node in ("8", SAMPLER):
        prompt[node]["inputs"].update(seed=seed, steps=8)  # enough to be interrupted in
    only(prompt, "EmptyLatentImage").update(batch_size=1, width=64, height=64)
    return prompt


def pixels(client, result: Result) -> bytes:
    (picture,) = pictures(client, result, SAVED)
    return picture.tobytes()


def forget(client) -> None:
    """Empties the server's cache of nodes before the next prompt."""
    client.post("/free", {"unload_models": True, "free_memory": True})


def ended(client, prompt_id: str) -> Result:
    """The result of a prompt that somebody else follows."""
    for _ in range(1200):
        if prompt_id in json.loads(client.get(f"/history/{prompt_id}")):
            return client.result(prompt_id)
        time.sleep(0.1)
    raise TimeoutError(prompt_id)


def test_an_interrupted_prompt_leaves_nothing_to_the_next(client, workflow):
    first, second = (retouch(workflow, seed) for seed in (11, 12))
    forget(client)
    alone = pixels(client, client.run(second))
    forget(client)
    waiting = []

    def interrupt(progress):
        if progress.node == SAMPLER and progress.value and not waiting:
            waiting.append(client.queue(second, "another client"))
            client.interrupt()

    with pytest.raises(Interrupted):
        client.run(first, interrupt)
    assert pixels(client, ended(client, *waiting)) == alone
    found = pixels(client, client.run(first))
    forget(client)
    assert found == pixels(client, client.run(first)) != alone
