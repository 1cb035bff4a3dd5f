"""Servers that draw the pictures: a ComfyUI of our own, or one that runs already."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from ...demo.launcher import host as hosting
from ...demo.launcher.client import DIRECT, Client, Prompt
from ...demo.launcher.files import Problem

LOST = (ConnectionError, urllib.error.URLError, aiohttp.ClientError, TimeoutError)
"""Errors of a server that is gone or silent."""
_FOLDERS = ("checkpoints", "loras", "embeddings", "vae", "text_encoders", "clip_vision", "controlnet", "sams")


class Server:
    """ComfyUI at an address."""

    def __init__(self, address: str):
        self.client, self._known = Client(address), set()

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

    def lend(self, name: str, path: Path) -> None:
        """Puts a photo among the server's inputs, once."""
        if name in self._known:
            return
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        request = urllib.request.Request(
            f"http://{self.client.address}/upload/image",
            head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
            method="POST",
        )
        with DIRECT.open(request, timeout=60):
            self._known.add(name)

    def draw(self, graph: Prompt, output: str, timeout: float) -> bytes:
        """Picture that the node `output` shows. Raises the client's errors, and Problem for a node without one."""
        images = self.client.run(graph, timeout=timeout).images(output)
        if len(images) != 1:
            raise Problem(
                f"Expected one picture from the node {graph[output]['class_type']} ({output}), got {len(images)}; set "
                "its batch size to 1."
            )
        return self.client.image(images[0])


class OwnServer(Server):
    """ComfyUI of our own, in a private folder, with the user's folders of weights."""

    def __init__(self, base: Path, folders: dict[str, str], cpu: bool):
        self.base, self.folders, self.cpu = base, folders, cpu
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
            Path(os.environ["COMFYUI_PATH"]), self.base, cpu=self.cpu, arguments=arguments, ready_within=600.0
        )

    def start(self) -> None:
        hosting.prepare(self.base)
        for attempt in range(3):
            try:
                self._host.start()
                return
            except hosting.HostError as error:
                self._host.stop()
                if attempt == 2 or "address already in use" not in str(error).lower():
                    raise Problem(str(error)) from error
                self._host = self._new()
                self.client = self._host.client

    def restart(self) -> None:
        self._known.clear()
        self._host.stop()
        self.start()

    def stop(self) -> None:
        self._host.stop()


def model_paths(folders: dict[str, str]) -> dict[str, Any]:
    """Extra model paths of ComfyUI.

    folders: places of "models", "loras", "embeddings", and of checkpoints with a number behind their name.
    """
    own = {
        f"likeness_{kind}": {kind.rstrip("0123456789"): place} for kind, place in folders.items() if kind != "models"
    }
    if "models" in folders:
        own["likeness"] = {"base_path": folders["models"], **{kind: kind for kind in _FOLDERS}}
    return own
