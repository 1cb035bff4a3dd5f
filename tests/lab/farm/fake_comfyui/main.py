"""Stands in for ComfyUI: a server that draws a picture from the hash of its graph, and equal graphs from its cache.

Inputs of a graph: `wait` seconds, `raises` a node's error, `dies` at once, `side` of a real picture in a color of the
seed. What it draws is listed in BASE/drawn.txt.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import sys
import uuid
from pathlib import Path

from aiohttp import web
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("--base-directory", type=Path, default=Path())
parser.add_argument("--port", type=int)
options, _ = parser.parse_known_args()
BASE = options.base_directory
(BASE / "server.pid").write_text(str(os.getpid()))
sockets, history, uploads, cache = {}, {}, {}, {}
one_at_a_time = asyncio.Lock()


def drawn(graph: dict, inputs: dict) -> bytes:
    if "side" in inputs:
        content = io.BytesIO()
        color = hashlib.sha256(str(inputs["seed"]).encode()).digest()[:3]
        Image.new("RGB", (inputs["side"], inputs["side"]), tuple(color)).save(content, format="PNG")
        return content.getvalue()
    return b"\x89PNG" + hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).digest()


async def execute(name: str, client: str, graph: dict) -> None:
    async with one_at_a_time:
        inputs = {key: value for node in graph.values() for key, value in node["inputs"].items()}
        await asyncio.sleep(inputs.get("wait", 0))
        if inputs.get("dies"):
            os._exit(9)
        said, outputs = [], {}
        if inputs.get("raises"):
            error = {"node_id": "1", "node_type": "KSampler", "exception_message": inputs["raises"]}
            said = [["execution_error", error]]
        else:
            picture = drawn(graph, inputs)
            if picture not in cache:
                cache[picture] = f"{name}.png"
                (BASE / "output" / f"{name}.png").write_bytes(picture + uploads.get(inputs.get("image"), b""))
                with (BASE / "drawn.txt").open("a") as log:
                    log.write(f"{inputs['seed']}\n")
            outputs = {"2": {"images": [{"filename": cache[picture], "subfolder": "", "type": "output"}]}}
        history[name] = {"status": {"messages": said}, "outputs": outputs}
        if client in sockets:
            await sockets[client].send_json({"type": "executing", "data": {"prompt_id": name, "node": None}})


async def stats(request):
    device = {"name": "fake"}
    return web.json_response({"system": {"comfyui_version": "0.0", "argv": sys.argv}, "devices": [device]})


async def prompt(request):
    content = await request.json()
    name = uuid.uuid4().hex
    running.append(asyncio.create_task(execute(name, content["client_id"], content["prompt"])))
    return web.json_response({"prompt_id": name})


async def listen(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    sockets[request.query["clientId"]] = socket
    async for _ in socket:
        pass
    return socket


async def told(request):
    return web.json_response({request.match_info["name"]: history[request.match_info["name"]]})


async def view(request):
    path = BASE / "output" / request.query["filename"]
    return web.Response(body=path.read_bytes()) if path.is_file() else web.Response(status=404)


async def upload(request):
    form = await request.post()
    uploads[form["image"].filename] = form["image"].file.read()
    return web.json_response({})


async def free(request):
    cache.clear()
    return web.Response()


running: list[asyncio.Task] = []
app = web.Application()
app.router.add_get("/system_stats", stats)
app.router.add_get("/ws", listen)
app.router.add_get("/history/{name}", told)
app.router.add_get("/view", view)
app.router.add_post("/prompt", prompt)
app.router.add_post("/free", free)
app.router.add_post("/upload/image", upload)
web.run_app(app, host="127.0.0.1", port=options.port, print=None, handler_cancellation=True)
