"""Program: imports the pack as the host does, with connections denied, runs nodes, and prints what it saw as JSON.

Arguments: the pack's launch.py, ComfyUI's folder, a folder for output.
"""

import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path

CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
# Of the pack alone: urllib3, which the host imports, looks for IPv6 by binding a port.
OTHERS = ("socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
seen, watched = [], [False]


def deny(event, arguments):
    """Refuses every connection, and also other programs once the host is imported."""
    if event in CONNECTIONS or (watched[0] and event in OTHERS):
        seen.append(f"{event} {arguments!r}"[:200])
        raise PermissionError(f"{event} is denied")


sys.addaudithook(deny)
launcher, comfyui, output = map(Path, sys.argv[1:])
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
print(json.dumps({"seen": seen, "more": sorted(more), "seconds": seconds, "loaded": str(loaded)}))
