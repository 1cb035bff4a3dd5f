"""Program: imports the pack as the host does, with connections denied, runs nodes, and prints what it saw as JSON.

Arguments: the pack's launch.py, ComfyUI's folder, a folder for output whose `metrics` has networks that are not whole,
and the port of a server on this machine, to which a connection must fail.
"""

import importlib
import importlib.util
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

CONNECTIONS = (
    *("socket.connect", "socket.sendto", "socket.sendmsg"),
    *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
)
# Of the pack alone: urllib3, which the host imports, looks for IPv6 by binding a port.
OTHERS = ("socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
seen, watched = [], [False]


def deny(event, arguments):
    """Refuses every connection, and also other programs once the host is imported."""
    if event in CONNECTIONS or (watched[0] and event in OTHERS):
        seen.append(f"{event} {arguments!r}"[:200])
        raise PermissionError(f"{event} is denied")


def attempts():
    """Tries every kind of connection, and a program. Returns what was denied, and the number that were not."""
    before, succeeded, there = len(seen), 0, ("127.0.0.1", port)
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as packets:
        for attempt in (
            lambda: stream.connect(there),
            lambda: packets.sendto(b"x", there),
            *([lambda: packets.sendmsg([b"x"], [], 0, there)] if hasattr(packets, "sendmsg") else []),
            lambda: socket.getaddrinfo("localhost", port),
            lambda: socket.gethostbyname("localhost"),
            lambda: socket.gethostbyaddr("127.0.0.1"),
            lambda: socket.getnameinfo(there, 0),
            lambda: subprocess.run([sys.executable, "-c", ""], check=False),
        ):
            try:
                attempt()
                succeeded += 1
            except PermissionError:
                pass
    return [event.partition(" ")[0] for event in seen[before:]], succeeded


sys.addaudithook(deny)
launcher, comfyui, output, port = *map(Path, sys.argv[1:4]), int(sys.argv[4])
spec = importlib.util.spec_from_file_location("launch", launcher)
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.alias_pack(comfyui)
sys.argv = sys.argv[:1]

from comfy.cli_args import args  # noqa: E402

args.cpu, args.output_directory = True, str(output)
for name in ("comfy_api.latest", "nodes", "server"):
    importlib.import_module(name)
import folder_paths  # noqa: E402

folder_paths.set_output_directory(str(output))
watched[0] = True
before, started = {*sys.modules}, time.process_time()
entry = importlib.import_module("likeness.nodes")
seconds = time.process_time() - started
more = {name.partition(".")[0] for name in {*sys.modules} - before}

root = launcher.parents[2]
for folder in ("nodes", "patching", "kernels"):
    for path in sorted((root / folder).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("_triton"):
            importlib.import_module(f"likeness.{name}")

from likeness.tests.patching.subject import likeness_runs as runs  # noqa: E402

runs.sampled()
palette = entry.AppearancePalette.execute(
    model=runs.models()["vanilla"],
    clip=runs.clip_of(),
    source="noised",
    seed=0,
    threshold=0.3,
    weight=1.0,
    blocks="paper",
    map_blocks="paper",
    image=runs.PHOTO,
    vae=runs.vae(),
    mask=runs.mask(8 * runs.SIDE),
    subject_prompt=runs.prompt_of(),
    **runs.WINDOW,
).args[0]
entry.LikenessSavePalette.execute(palette, "kept")
loaded = entry.LikenessLoadPalette.execute("kept_00001_.safetensors").args[0]
model, _, vae = entry.LikenessDemoModel.execute().args
entry.LikenessDemoSubject.execute(model, entry.LikenessDemoSubject.GET_SCHEMA().inputs[1].options[0], 1.0, "")

folder_paths.folder_names_and_paths["likeness_metrics"] = ([str(output / "metrics")], set())
refusals = {}
for name in ("clip-vit-large-patch14", "clip-vit-base-patch32", "dino-vits16"):
    try:
        entry.LikenessMetrics.execute(name, "none")
    except ValueError as error:
        refusals[name] = str(error)
found = {"seen": [*seen], "refusals": refusals, "denied": attempts()}
print(json.dumps({**found, "more": sorted(more), "seconds": seconds, "loaded": str(loaded)}))
