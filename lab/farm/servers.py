"""Servers that draw the pictures: a ComfyUI of our own, or one that runs already."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from ...demo.launcher import host as hosting
from ...demo.launcher.client import DIRECT, Client, Failed, Prompt, Turn
from ...demo.launcher.files import Problem
from . import strips

LOST = (ConnectionError, http.client.HTTPException, urllib.error.URLError, aiohttp.ClientError, TimeoutError)
"""Errors of a server that is gone or silent."""
ATTEMPTS = 3
_FOLDERS = ("checkpoints", "loras", "embeddings", "vae", "text_encoders", "clip_vision", "controlnet", "sams")
_FOLDERS += ("diffusion_models", "background_removal")
Result = TypeVar("Result")


class Blameless(ConnectionError):
    """Raised where a server is lost that did not have the graph at that time, so that this is not the cause."""


class Server:
    """ComfyUI at an address."""

    def __init__(self, address: str):
        self.client, self._known = Client(address), set()
        self._lock, self._life = threading.Lock(), 0

    def start(self) -> None:
        """Asks the server whether it answers. Raises Problem."""
        try:
            self.client.get("/system_stats")
        except LOST as error:
            raise Problem(
                f"No ComfyUI answers at {self.client.address} ({error}): start it, or leave --server out."
            ) from error

    def restart(self) -> None:
        """Goes on with the server if it answers. Raises Problem otherwise: it is not ours to start again."""
        self._known.clear()
        self._life += 1
        try:
            self.client.get("/system_stats")
        except LOST as error:
            raise Problem(
                f"The ComfyUI at {self.client.address} was lost ({error}), and a server of --server is never started "
                "again from here: start it, and run the same command to go on."
            ) from error

    def stop(self) -> None:
        pass

    def about(self) -> dict[str, str]:
        """Versions and device, for the records."""
        stats = json.loads(self.client.get("/system_stats"))
        device = next(iter(stats.get("devices", ())), {}).get("name", "unknown")
        return {"comfyui": stats["system"].get("comfyui_version", "unknown"), "device": device}

    def lend(self, name: str, content: Callable[[], bytes]) -> None:
        """Puts a file among the server's inputs, once."""
        if name not in self._known:
            self.upload(name, content())
            self._known.add(name)

    def upload(self, name: str, content: bytes) -> None:
        """Puts a file among the server's inputs; replaces one of this name."""
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        request = urllib.request.Request(
            f"http://{self.client.address}/upload/image",
            head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
            method="POST",
        )
        with DIRECT.open(request, timeout=60):
            pass

    def results(self, graph: Prompt, output: str, timeout: float) -> tuple[list[bytes], str]:
        """Pictures and text that the node `output` shows. Raises the client's errors."""
        result = self.client.run(graph, timeout=timeout)
        texts = result.outputs.get(output, {}).get("text", [])
        return [self._taken(record) for record in result.images(output)], "\n".join(map(str, texts))

    def draw(self, graph: Prompt, output: str, timeout: float) -> bytes:
        """Picture that the node `output` shows; another thread's graph is drawn while this one's picture is fetched.

        Of nodes whose ids each have a comma behind them, all pictures are in one strip (`strips.joined`). Raises the
        client's errors, and Blameless in place of LOST while the server does not have the graph. Failed also stands for
        another number of pictures than one, or for none of a node in a strip.
        """
        life = self._life
        turn = Turn(self._lock, lambda: self._life == life)
        try:
            result = self.client.run(graph, timeout=timeout, turn=turn)
        except LOST as error:
            if turn.queued:
                raise
            raise Blameless(str(error)) from error
        nodes, strip = strips.nodes_of(output), strips.is_strip(output)
        images = [result.images(node) for node in nodes]
        for node, shown in zip(nodes, images, strict=True):
            kind = graph[node]["class_type"]
            if not strip and len(shown) != 1:
                raise Failed(node, kind, f"expected one picture, got {len(shown)}; set the batch size to 1.")
            if not shown:
                raise Failed(node, kind, "expected pictures, got none; connect its images.")
        try:
            contents = [[self._taken(image) for image in shown] for shown in images]
        except urllib.error.HTTPError:
            raise
        except LOST as error:  # by the next graph
            raise Blameless(str(error)) from error
        return strips.joined(contents) if strip else contents[0][0]

    def _taken(self, image: dict[str, str]) -> bytes:
        return self.client.image(image)


class OwnServer(Server):
    """ComfyUI of our own, in a private folder, with the user's folders of weights. It ends with this process."""

    def __init__(self, base: Path, folders: Mapping[str, str], cpu: bool):
        self.base, self.folders, self.cpu, self._stopped = base, folders, cpu, False
        self._host = self._new()
        super().__init__(self._host.client.address)

    def _new(self) -> hosting.Host:
        """Host on a port that is free now; another one may take it before ComfyUI does."""
        arguments: tuple[str, ...] = ()
        if self.folders:
            self.base.mkdir(parents=True, exist_ok=True)
            config = self.base / "model_paths.json"
            config.write_text(json.dumps(model_paths(self.folders)), encoding="utf-8")  # the host reads YAML
            arguments = ("--extra-model-paths-config", str(config))
        return hosting.Host(
            Path(os.environ["COMFYUI_PATH"]),
            self.base,
            python=os.environ.get("LIKENESS_PYTHON", sys.executable),
            cpu=self.cpu,
            arguments=arguments,
            ready_within=600.0,
            kept=True,
        )

    def start(self) -> None:
        if missing := [place for place in self.folders.values() if not Path(place).is_dir()]:
            raise Problem(
                f"{socket.gethostname()} has no folder {missing[0]}, where the plan has its weights: put them there, "
                "or plan again with folders that every machine has."
            )
        hosting.prepare(self.base)
        for attempt in range(ATTEMPTS):
            if self._stopped:
                raise Problem(f"The ComfyUI in {self.base} was stopped.")
            try:
                self._host.start()
                if self._is_own():
                    return
                raise hosting.HostError("another server has its address already in use")
            except hosting.HostError as error:
                self._host.stop()
                if attempt + 1 == ATTEMPTS or "address already in use" not in str(error).lower():
                    raise Problem(str(error)) from error
                self._host = self._new()
                self.client = self._host.client

    def _is_own(self) -> bool:
        """True unless another ComfyUI took the port first and answers in this one's place."""
        try:
            stats = json.loads(self.client.get("/system_stats"))
        except LOST:
            return False
        return str(self.base) in stats["system"].get("argv", ())

    def restart(self) -> None:
        self._known.clear()
        self._life += 1
        self._host.stop()
        self.start()

    def stop(self) -> None:
        self._stopped = True
        self._host.stop()

    def draw(self, graph: Prompt, output: str, timeout: float) -> bytes:
        return self._anew(lambda: super(OwnServer, self).draw(graph, output, timeout))

    def results(self, graph: Prompt, output: str, timeout: float) -> tuple[list[bytes], str]:
        return self._anew(lambda: super(OwnServer, self).results(graph, output, timeout))

    def _anew(self, run: Callable[[], Result]) -> Result:
        """Result of a run, which is repeated where its files are gone."""
        try:
            return run()
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            # ComfyUI has the result of an equal graph in its cache, whose file is already taken.
            self.client.post("/free", {"free_memory": True})
            return run()

    def _taken(self, image: dict[str, str]) -> bytes:
        """Picture, removed from the server's folder: ComfyUI lists that folder for each new name."""
        content = super()._taken(image)
        (self.base / image["type"] / image["subfolder"] / image["filename"]).unlink(missing_ok=True)
        return content


def model_paths(folders: Mapping[str, str]) -> dict[str, Any]:
    """Extra model paths of ComfyUI.

    folders: places of "models", "loras", "embeddings", and of checkpoints with a number behind their name.
    """
    own = {
        f"likeness_{kind}": {kind.rstrip("0123456789"): place} for kind, place in folders.items() if kind != "models"
    }
    if "models" in folders:
        own["likeness"] = {"base_path": folders["models"], **{kind: kind for kind in _FOLDERS}}
    return own
