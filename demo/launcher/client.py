"""Client for ComfyUI's HTTP interface: queues an API-format prompt, follows its progress, fetches its results."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opener without proxies: a proxy from the environment cannot reach servers on this machine."""
Prompt = dict[str, dict[str, Any]]
"""API format: {node id: {"class_type": ..., "inputs": {...}}}; a link is [node id, output index]."""


class Rejected(ValueError):
    """Raised when the server refuses a prompt before running it. errors: {node id: [sentence, ...]}."""

    def __init__(self, reply: dict):
        self.errors = {
            node: list(dict.fromkeys(_sentence(error) for error in found["errors"]))
            for node, found in (reply.get("node_errors") or {}).items()
        }
        sentences = [s for found in self.errors.values() for s in found] or [
            reply.get("error", {}).get("message", "no reason given")
        ]
        super().__init__(f"ComfyUI refused the workflow: {'; '.join(sentences)}")


def _sentence(error: dict[str, Any]) -> str:
    """The sentence of one of the host's errors."""
    if error["type"] == "custom_validation_failed" and " - " in error["details"]:
        # The node's own sentence, which the host repeats for every input that the node has looked at.
        return error["details"].split(" - ", 1)[1]
    return f"{error['message']}: {error['details']}"


class Failed(RuntimeError):
    """Raised when a node raises. node: its id; kind: its class; sentence: its message."""

    def __init__(self, node: str, kind: str, sentence: str):
        self.node, self.kind, self.sentence = node, kind, sentence
        super().__init__(f"{kind} (node {node}): {sentence}")


class Interrupted(RuntimeError):
    """Raised when the run was interrupted."""


FAILURES = (
    *(Rejected, Failed, Interrupted, TimeoutError),
    *(ConnectionError, urllib.error.URLError, aiohttp.ClientError),
)
"""Errors that end a run: of the workflow, and of a server that is gone."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run: the working node, its class, and the steps it has done (0 of 0: it counts no steps)."""

    node: str
    kind: str
    value: int = 0
    maximum: int = 0


@dataclass(frozen=True)
class Result:
    """Finished run. outputs: {node id: its output record}, as in the server's history."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]

    def images(self, node: str | None = None) -> list[dict[str, str]]:
        """Image records ({filename, subfolder, type}) of one node, or of all nodes in the order of their ids."""
        nodes = [node] if node else sorted(self.outputs, key=lambda n: (len(n), n))
        return [image for n in nodes for image in self.outputs.get(n, {}).get("images", [])]

    def text(self, node: str) -> str:
        return "\n".join(self.outputs[node]["text"])


class Turn:
    """Turn of a prompt at a server that several threads use, from its queueing to its end.

    queued: True while the server has the prompt. valid: tells whether the server runs that the turn was asked of.
    """

    def __init__(self, lock: threading.Lock, valid: Callable[[], bool] = lambda: True):
        self._lock, self._valid, self.queued = lock, valid, False

    def begin(self) -> None:
        """Waits for the turn. Raises ConnectionError where the server was started again meanwhile."""
        self._lock.acquire()
        if not self._valid():
            self._lock.release()
            raise ConnectionError("ComfyUI was started again")

    def end(self) -> None:
        self._lock.release()


class Client:
    """Talks to one server. Every method may raise urllib.error.URLError or aiohttp.ClientError when the server is
    gone."""

    def __init__(self, address: str):
        self.address = address

    def get(self, path: str, **query: str) -> bytes:
        with DIRECT.open(f"http://{self.address}{path}?{urllib.parse.urlencode(query)}", timeout=60) as reply:
            return reply.read()

    def post(self, path: str, content: dict) -> dict:
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
            method="POST",
        )
        with DIRECT.open(request, timeout=60) as reply:
            return json.loads(reply.read() or b"{}")

    def object_info(self) -> dict[str, Any]:
        return json.loads(self.get("/object_info"))

    def queue(self, prompt: Prompt, client_id: str = "") -> str:
        """Queues a prompt and returns its id. Raises Rejected if any of it is not valid."""
        try:
            reply = self.post("/prompt", {"prompt": prompt, "client_id": client_id})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise Rejected(json.loads(error.read())) from error
        if reply.get("node_errors"):
            # The host would run the outputs that do not depend on the invalid node, and leave out the others.
            self.post("/queue", {"delete": [reply["prompt_id"]]})
            self.post("/interrupt", {"prompt_id": reply["prompt_id"]})
            raise Rejected(reply)
        return reply["prompt_id"]

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def image(self, record: dict[str, str]) -> bytes:
        """Bytes of the file that an image record names."""
        return self.get("/view", **{k: record[k] for k in ("filename", "subfolder", "type")})

    def run(
        self,
        prompt: Prompt,
        progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
        turn: Turn | None = None,
    ) -> Result:
        """Queues a prompt, waits for its end and returns its result. turn: is held while the server has the prompt.

        Raises Rejected, Failed, Interrupted, or TimeoutError after `timeout` seconds of its turn; on a timeout the run
        is interrupted.
        """
        try:
            prompt_id = asyncio.run(
                self._follow(prompt, progress or (lambda _: None), timeout, turn or Turn(threading.Lock()))
            )
        except (TimeoutError, asyncio.TimeoutError) as error:
            self.interrupt()
            raise TimeoutError(f"the workflow did not end within {timeout:.0f} s") from error
        return self.result(prompt_id)

    def result(self, prompt_id: str) -> Result:
        """Result of a finished prompt. Raises Failed or Interrupted."""
        record = json.loads(self.get(f"/history/{prompt_id}"))[prompt_id]
        for event, said in record["status"]["messages"]:
            if event == "execution_error":
                raise Failed(said["node_id"], said["node_type"], said["exception_message"].strip())
            if event == "execution_interrupted":
                raise Interrupted(f"interrupted at {said['node_type']} (node {said['node_id']})")
        return Result(prompt_id, record["outputs"])

    async def _follow(self, prompt: Prompt, progress: Callable[[Progress], None], timeout: float, turn: Turn) -> str:
        # Connect in one's turn: a connection that waits unread is lost where aiohttp counts no answer to its pings.
        await asyncio.to_thread(turn.begin)
        try:
            client_id = uuid.uuid4().hex
            socket = f"ws://{self.address}/ws?clientId={client_id}"
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(socket, max_msg_size=0, heartbeat=30) as messages,
            ):
                # Connect before queueing, so that the end of a quick run is not missed.
                return await asyncio.wait_for(self._queued(prompt, progress, client_id, messages, turn), timeout)
        finally:
            turn.end()

    async def _queued(
        self,
        prompt: Prompt,
        progress: Callable[[Progress], None],
        client_id: str,
        messages: aiohttp.ClientWebSocketResponse[Any],
        turn: Turn,
    ) -> str:
        """Queues a prompt and follows its messages to its end; returns its id."""
        prompt_id = await asyncio.to_thread(self.queue, prompt, client_id)
        turn.queued = True
        async for message in messages:
            if message.type != aiohttp.WSMsgType.TEXT:  # previews are binary
                continue
            event = json.loads(message.data)
            said = event["data"]
            if said.get("prompt_id") != prompt_id or event["type"] not in ("executing", "progress"):
                continue
            node = said["node"]
            if node is None:
                turn.queued = False
                return prompt_id
            kind = prompt[node]["class_type"] if node in prompt else ""
            progress(Progress(node, kind, said.get("value", 0), said.get("max", 0)))
        raise ConnectionError("ComfyUI closed the connection before the workflow ended")
