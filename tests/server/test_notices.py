"""Sentences about a run reach the node in the graph editor over the websocket, and the history of the prompt."""

import asyncio
import contextlib
import struct
import threading

import aiohttp
import pytest
from likeness.tests.server.prompts import ended, only

EDITOR = "editor"
TEXT = 3
"""The host's number of binary messages with a text for a node."""


@contextlib.contextmanager
def listening(address: str):
    """A list that gets (node id, text) of each message to the graph editor."""
    heard, ready, end = [], threading.Event(), threading.Event()

    async def listen():
        url = f"ws://{address}/ws?clientId={EDITOR}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            ready.set()
            while not end.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    message = await socket.receive(timeout=0.2)
                    if message.type == aiohttp.WSMsgType.BINARY:
                        kind, length = struct.unpack(">II", message.data[:8])
                        if kind == TEXT:
                            heard.append((message.data[8 : 8 + length].decode(), message.data[8 + length :].decode()))

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    assert ready.wait(30)
    try:
        yield heard
    finally:
        end.set()
        thread.join()


@pytest.mark.usefixtures("client")
def test_a_sentence_of_a_run_reaches_the_node_that_patched_the_model(client, workflow):
    prompt = {
        node: entry for node, entry in workflow("pick_and_draw").items() if node not in ("21", "22", "23", "24", "25")
    }
    (guidance,) = [node for node, entry in prompt.items() if entry["class_type"] == "UREMDGuidance"]
    only(prompt, "UREMDGuidance").update(text="a photo of a sks fish", word="fish")
    only(prompt, "KSampler")["steps"] = 2
    with listening(client.address) as heard:
        ended(client, client.queue(prompt, EDITOR))
    texts = dict(heard)
    assert set(texts) == {guidance}
    first, *others = texts[guidance].splitlines()
    assert first.startswith("Warning: Expected text to be the sampler's positive prompt")
    assert others[-1].startswith("guided step ")


def test_a_sentence_of_the_nodes_own_run_is_in_the_history(client, workflow):
    prompt = workflow("joint_image_sampler")
    only(prompt, "JointImageSampler").update(steps=2, start_percent=0.3, end_percent=0.301)
    (sampler,) = [node for node, entry in prompt.items() if entry["class_type"] == "JointImageSampler"]
    with listening(client.address) as heard:
        result = ended(client, client.queue(prompt, EDITOR))
    said = result.text(sampler)
    assert said.startswith("Warning: No effect on this run, because none of its noise levels lies between")
    assert dict(heard) == {sampler: said}
