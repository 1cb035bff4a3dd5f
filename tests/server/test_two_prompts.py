"""Prompts of two clients that wait for each other: neither knows of the other, also where one is interrupted."""

import asyncio
import json
import struct

import aiohttp
import pytest
from likeness.demo.launcher.client import Interrupted, Result
from likeness.tests.server.prompts import ended, only, pictures

SAMPLER, SAVED, GUIDANCE = "18", "20", "g17"
TEXT = 3
"""The host's number of binary messages with a text for a node."""


def retouch(workflow, seed: int) -> dict:
    """A retouch of one small picture, from the layout to the mask."""
    prompt = {node: entry for node, entry in workflow("layout_and_retouch").items() if node not in ("21", "22", "23")}
    for node in ("8", SAMPLER):
        prompt[node]["inputs"].update(seed=seed, steps=8)  # enough to be interrupted in
    only(prompt, "EmptyLatentImage").update(batch_size=1, width=64, height=64)
    return prompt


def guided(workflow, seed: int) -> dict:
    """A small guided picture with a palette and a template."""
    prompt = {
        node: entry for node, entry in workflow("pick_and_draw").items() if node not in ("21", "22", "23", "24", "25")
    }
    prompt[SAMPLER]["inputs"]["seed"] = seed
    only(prompt, "EmptyLatentImage").update(batch_size=1, width=64, height=64)
    return prompt


def renamed(prompt: dict, prefix: str) -> dict:
    """The prompt with other node ids, so that an event tells whose it is."""

    def linked(value):
        return [prefix + value[0], value[1]] if isinstance(value, list) and value[0] in prompt else value

    return {
        prefix + node: {**entry, "inputs": {name: linked(value) for name, value in entry["inputs"].items()}}
        for node, entry in prompt.items()
    }


def pixels(client, result: Result, prefix: str = "") -> bytes:
    (picture,) = pictures(client, result, prefix + SAVED)
    return picture.tobytes()


def forget(client) -> None:
    """Empties the server's cache of nodes before the next prompt."""
    client.post("/free", {"unload_models": True, "free_memory": True})


async def at_once(client, prompts: dict[str, dict]) -> dict[str, tuple[Result, list]]:
    """Queues one prompt per client at the same time: by client, its result and what its websocket has got."""
    heard: dict[str, list] = {name: [] for name in prompts}

    async def hear(name, socket):
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                heard[name].append((event["type"], event["data"]))
            elif message.type == aiohttp.WSMsgType.BINARY:
                kind, length = struct.unpack(">II", message.data[:8])
                heard[name].append((kind, {"node": message.data[8 : 8 + length].decode()}))

    async with aiohttp.ClientSession() as session:
        url = f"ws://{client.address}/ws?clientId="
        sockets = {name: await session.ws_connect(url + name, max_msg_size=0) for name in prompts}
        hearing = [asyncio.create_task(hear(name, socket)) for name, socket in sockets.items()]
        ids = await asyncio.gather(*(asyncio.to_thread(client.queue, prompt, name) for name, prompt in prompts.items()))
        results = await asyncio.gather(*(asyncio.to_thread(ended, client, found) for found in ids))
        await asyncio.sleep(0.5)  # for events that are still on their way
        for socket in sockets.values():
            await socket.close()
        await asyncio.gather(*hearing)
    return {name: (result, heard[name]) for name, result in zip(prompts, results, strict=True)}


TO_ALL = {"status", "feature_flags"}
"""Events that the host sends to every client."""


def test_two_clients_at_once(client, workflow):
    made = {"g": guided(workflow, 11), "r": retouch(workflow, 12)}
    prompts = {name: renamed(prompt, name) for name, prompt in made.items()}
    alone = {}
    for name, prompt in prompts.items():
        forget(client)
        alone[name] = pixels(client, client.run(prompt), name)
    forget(client)
    together = asyncio.run(at_once(client, prompts))
    for name, (result, heard) in together.items():
        assert pixels(client, result, name) == alone[name]
        own = [(kind, said) for kind, said in heard if kind not in TO_ALL]
        assert {kind for kind, _ in own} >= {"execution_start", "executing", "progress", "execution_success"}
        for kind, said in own:
            assert said.get("prompt_id", result.prompt_id) == result.prompt_id, (kind, said)
            nodes = [node for key in ("node", "display_node", "runner") if (node := said.get(key)) is not None]
            assert all(node in prompts[name] for node in [*nodes, *said.get("nodes", ())]), (kind, said)
    assert (TEXT, {"node": GUIDANCE}) in together["g"][1] and alone["g"] != alone["r"]


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
