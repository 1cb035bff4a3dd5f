"""The fuzzer's ComfyUI: one long-lived server, what a prompt gives, and what it shows on its nodes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from ...demo.launcher import host as hosting
from ...demo.launcher.client import Client, Failed, Prompt, Rejected, Turn
from .prompts import nodes_of
from .stock import stock

REJECTED = "rejected"
"""Kind of the outcome of a prompt that was refused before it ran."""
WITHHELD = "withheld"
"""Kind of the outcome of a prompt in which a node has stopped what is behind it, without an error."""
NODES = Path(__file__).with_name("host_nodes")
"""Custom nodes that the fuzzed graphs use beside those of the pack."""
SERVING = "serving.pid"
"""File in the base directory that asks host_nodes/spares.py for fresh processes, and names the one that serves."""
_NEXT = getattr(signal, "SIGUSR1", None)
_TEXT_EVENT = 3
_TIMEOUT = 600.0
_READY_WITHIN = 1800.0
"""Seconds: a campaign runs beside other programs, at a low priority."""
_NOTHING: Prompt = {
    "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}},
    "2": {"class_type": "FuzzResult", "inputs": {"latent": ["1", 0]}},
}


@dataclass(frozen=True)
class Outcome:
    """Ending of a prompt.

    facts: those of FuzzResult, empty after an error. texts: sentences shown on each node. error: the sentence of the
    node `at`, of class `kind`; kind is "rejected" for a prompt that was refused before it ran. leaks: warnings of the
    host about memory.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    at: str = ""
    kind: str = ""
    error: str = ""
    leaks: int = 0

    @property
    def hash(self) -> str:
        return self.facts.get("hash", "")

    @property
    def ended(self) -> tuple[str, str]:
        """Hash of the result and sentence of the error, which equal prompts must share."""
        return self.hash, self.error


class _Listening(Client):
    """Client that also keeps the last text of every node."""

    def __init__(self, address: str):
        super().__init__(address)
        self.texts: dict[str, str] = {}

    async def _queued(
        self, prompt: Prompt, progress: Any, client_id: str, messages: aiohttp.ClientWebSocketResponse[Any], turn: Turn
    ) -> str:
        prompt_id = await asyncio.to_thread(self.queue, prompt, client_id)
        async for message in messages:
            if message.type == aiohttp.WSMsgType.BINARY:
                self._keep(message.data)
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            said = event["data"]
            if event["type"] == "executing" and said.get("prompt_id") == prompt_id and said["node"] is None:
                return prompt_id
        raise ConnectionError("ComfyUI closed the connection before the workflow ended")

    def _keep(self, data: bytes) -> None:
        kind, length = struct.unpack(">II", data[:8])
        if kind == _TEXT_EVENT:
            self.texts[data[8 : 8 + length].decode()] = data[8 + length :].decode()


class Server:
    """A running ComfyUI."""

    def __init__(self, host: hosting.Host):
        self._host = host
        self._client = _Listening(host.client.address)

    @property
    def schemas(self) -> dict[str, Any]:
        return self._client.object_info()

    def run(self, prompt: Prompt) -> Outcome:
        """Runs a prompt. Raises ConnectionError or OSError where the server died, TimeoutError where it hangs."""
        self._client.texts.clear()
        log = self._host.log.stat().st_size
        found: dict[str, Any] = {}
        try:
            result = self._client.run(prompt, timeout=_TIMEOUT)
        except Rejected as error:
            return Outcome(kind=REJECTED, error=str(error))
        except Failed as error:
            found = {"at": error.node, "kind": error.kind, "error": error.sentence}
        else:
            (shown, *_) = nodes_of(prompt, "FuzzResult")
            if shown in result.outputs:
                found = {"facts": json.loads(result.text(shown))}
            else:
                found = {"kind": WITHHELD}
                # A node that the host has kept from an equal prompt sends no text, but keeps what it shows.
                self._client.texts |= {
                    node: "\n".join(said["text"]) for node, said in result.outputs.items() if "text" in said
                }
        with self._host.log.open("rb") as file:
            file.seek(log)
            leaks = file.read().count(b"memory leak")
        return Outcome(texts={node: text for node, text in self._client.texts.items() if text}, leaks=leaks, **found)

    def restart(self) -> None:
        """Makes another process serve."""
        serving = self._host.base / SERVING
        if _NEXT is None or not serving.exists() or not self._host.running:
            self._host.stop()
            self._host.start()
            return
        before = serving.read_text(encoding="utf-8")
        os.kill(self._host.pid, _NEXT)
        while self._host.running and serving.read_text(encoding="utf-8") == before:
            time.sleep(0.01)
        self._host.await_answer()

    def forget(self) -> None:
        """Makes the host drop everything that it has cached, models included."""
        self._client.post("/free", {"unload_models": True, "free_memory": True})
        self._client.run(_NOTHING)  # the host frees after a prompt, not at once


def write_files(server: Server) -> None:
    """Makes the files that drawn graphs load."""
    for prompt in stock(server.schemas):
        outcome = server.run(prompt)
        if outcome.error:
            raise RuntimeError(f"expected files for the fuzzed graphs, got: {outcome.error}")


@contextmanager
def serving(comfyui: Path) -> Iterator[Server]:
    """Starts a ComfyUI with the pack and the fuzzer's nodes; it ends with the block."""
    with TemporaryDirectory(prefix="likeness-fuzz-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        hosting.prepare(base)
        shutil.copytree(NODES, base / "custom_nodes" / "likeness_fuzz", ignore=shutil.ignore_patterns("__pycache__"))
        (base / SERVING).touch()
        with hosting.Host(comfyui, base=base, arguments=("--disable-api-nodes",), ready_within=_READY_WITHIN) as host:
            server = Server(host)
            write_files(server)
            yield server
