"""Draws the pictures of the help pages from the demo's workflows, in a real ComfyUI:

    COMFYUI_PATH=... python docs/draw_help.py [NODE ...] [--out FOLDER]
    COMFYUI_PATH=... python docs/draw_help.py --checkpoint FILE --photos FOLDER --subject WORD

`help_pictures.py` lists them. A picture is drawn again only where its graph or the weights have changed. With a
checkpoint of your own, the same graphs draw your subject into the folder `help_pictures`; those of the demo's own
models are left out.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
ASSETS, KEPT = ROOT / "web" / "docs" / "assets", ROOT / "docs" / "help_pictures.json"
SEGMENT = "LikenessSegment"
WIDTH, GAP, LINE, FONT, MOST, QUALITY = 384, 4, 24, 18, 5, 80
LAYOUT = 2
"""Counts up where the same panels give another picture."""
LOADED_BY = {
    "joint.safetensors": {"LikenessDemoJointModel", "LikenessLoadJointCheckpoint"},
    "transformer.safetensors": {"LikenessDemoTransformer"},
    "transformer": {"LikenessDemoTransformer"},
}
"""Files and folders of weights that few kinds of nodes alone load."""
GRAY = (150, 150, 150, 255)
"""A color for labels that can be read on the dark panel and on the light one."""

Prompt = dict[str, dict[str, Any]]


def changed(panel, change: Callable[[Prompt], Prompt] = lambda prompt: prompt) -> Prompt:
    """A panel's workflow in API format, with its changes."""
    path = ROOT / "workflows" / "api" / f"{panel.workflow}.json"
    prompt = json.loads(path.read_text(encoding="utf-8"))
    prompt |= {number: {**node, "inputs": dict(node["inputs"])} for number, node in panel.added.items()}
    for node in prompt.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = panel.batch
    for name, value in panel.changes.items():
        number, _, entry = name.partition(".")
        if value is None:
            del prompt[number]["inputs"][entry]
        else:
            prompt[number]["inputs"][entry] = value
    return change(prompt)


def gathered(prompt: Prompt, number: str, found: Prompt) -> str:
    """Adds a node and all before it to `found`, under names made of their contents. Returns the node's name."""
    node = prompt[number]
    inputs = {
        name: [gathered(prompt, value[0], found), value[1]] if isinstance(value, list) else value
        for name, value in sorted(node["inputs"].items())
    }
    made = {"class_type": node["class_type"], "inputs": inputs}
    name = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    found[name] = made
    return name


def placed(panel, entry: str, found: Prompt, **own) -> tuple[str, int]:
    """Adds the node of "NODE.OUTPUT" of a panel's workflow, and all before it. Returns its name and the output."""
    number, _, output = entry.partition(".")
    return gathered(changed(panel, **own), number, found), int(output or 0)


def graph(picture, **own) -> tuple[Prompt, list[tuple[str, int]]]:
    """One prompt for all panels, which share equal nodes, and the node and output that each panel shows."""
    found: Prompt = {}
    shown = [placed(panel, panel.shown, found, **own) for panel in picture.panels]
    for panel in picture.panels:
        if panel.score:
            placed(panel, panel.score, found, **own)
    return found, shown


def digest(picture, weights: str, **own) -> str:
    """Digest of all that decides a picture's pixels, but for the code."""
    made = [graph(picture, **own), [(panel.picture, panel.label) for panel in picture.panels], weights, LAYOUT]
    made += [panel.part + panel.score for panel in picture.panels if panel.part or panel.score]
    made += [graph(replace(picture, panels=(panel,)), **own) for panel in picture.first]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def digest_of(files: Iterator[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                total.update(block)
    return total.hexdigest()


@functools.cache
def demo_weights(kinds: frozenset[str]) -> str:
    """Digest of the demo's weights, but for those that only nodes of other kinds load."""
    folder = ROOT / "demo" / "weights"
    files = (path for path in folder.rglob("*") if path.is_file())
    return digest_of(path for path in files if kinds & LOADED_BY.get(path.relative_to(folder).parts[0], kinds))


def kinds_of(picture) -> frozenset[str]:
    """Kinds of the nodes that draw a picture."""
    graphs = [graph(picture), *(graph(replace(picture, panels=(panel,))) for panel in picture.first)]
    return frozenset(node["class_type"] for found, _ in graphs for node in found.values())


def links(found: Prompt, node: str, output: int, object_info: dict[str, Any]) -> list[tuple[str, int]]:
    """The outputs to preview for a node that is shown."""
    entry = found[node]
    if entry["class_type"] == SEGMENT:  # it needs a checkpoint; its inputs do not
        return [tuple(entry["inputs"][name]) for name in ("image", "heatmap")]
    kind = object_info[entry["class_type"]]["output"][output]
    return [(node, output)] if kind in ("IMAGE", "LATENT", "MASK") else []


def with_previews(found: Prompt, shown: list[tuple[str, int]], object_info: dict[str, Any]) -> Prompt:
    """The prompt with a preview for each node that is shown; latents are decoded, masks become pictures."""
    prompt = {name: node for name, node in found.items() if node["class_type"] != SEGMENT}
    for node, output in (one for pair in shown for one in links(found, *pair, object_info)):
        kind, link = object_info[found[node]["class_type"]]["output"][output], [node, output]
        if kind == "LATENT":
            loader = next(n for n, entry in found.items() if "VAE" in object_info[entry["class_type"]]["output"])
            vae = object_info[found[loader]["class_type"]]["output"].index("VAE")
            prompt[f"{node}.picture"] = {"class_type": "VAEDecode", "inputs": {"samples": link, "vae": [loader, vae]}}
            link = [f"{node}.picture", 0]
        elif kind == "MASK":
            prompt[f"{node}.picture"] = {"class_type": "MaskToImage", "inputs": {"mask": link}}
            link = [f"{node}.picture", 0]
        prompt[f"{node}.{output}.shown"] = {"class_type": "PreviewImage", "inputs": {"images": link}}
    return prompt


def draw(host, picture, object_info: dict[str, Any], **own) -> Image.Image:
    """Runs a picture's graph and lays its panels out."""
    client = host.client
    for panel in picture.first:
        found, shown = graph(replace(picture, panels=(panel,)), **own)
        client.run(with_previews(found, shown, object_info), timeout=24 * 3600)
    found, shown = graph(picture, **own)
    prompt = with_previews(found, shown, object_info)
    scores = [placed(panel, panel.score, {}, **own) if panel.score else None for panel in picture.panels]
    for score in filter(None, scores):
        prompt[f"{score}.said"] = {"class_type": "PreviewAny", "inputs": {"source": list(score)}}
    result = client.run(prompt, timeout=24 * 3600)

    def image(node: str, output: int) -> Image.Image:
        records = result.images(f"{node}.{output}.shown")
        record = records[min(panel.picture, len(records) - 1)]
        return Image.open(io.BytesIO(client.image(record))).convert("RGB")

    panels = []
    for panel, (node, output), score in zip(picture.panels, shown, scores, strict=True):
        made, label, seen = found[node], panel.label, links(found, node, output, object_info)
        if panel.part:
            name = result.text(node).splitlines()[0]
            pixels, label = parts().stored(made["class_type"], host.base / "output", name, panel.part)
        elif made["class_type"] == SEGMENT:
            pixels = parts().prompted(*(image(*one) for one in seen), made["inputs"])
        else:
            pixels = image(node, output)
        if score:
            label = f"{float(result.outputs[f'{score}.said']['text'][panel.picture]):.2f}"
        panels.append((pixels, label))
    return composed(panels)


def parts():
    """The module that reads files in this process."""
    from comfy.cli_args import args

    args.cpu = True  # must be set before ComfyUI looks for a device
    from likeness.docs import help_parts

    return help_parts


def joint_checkpoint(base: Path) -> tuple[str, ...]:
    """Fills the server's folder, with the demo's joint model among its checkpoints."""
    from likeness.demo.launcher.host import prepare

    prepare(base)
    parts().write_joint_model(base / "models" / "checkpoints" / "joint.safetensors")
    shutil.copy2(ROOT / "docs" / "help_loader.py", base / "custom_nodes")
    return ()


def composed(panels: list[tuple[Image.Image, str]]) -> Image.Image:
    """Rows of at most MOST panels of one height on transparent ground, with their labels below."""
    columns = len(panels) if len(panels) <= MOST else 4
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    line = LINE if any(label for _, label in panels) else 0
    full = max(sum(picture.width / picture.height for picture, _ in row) for row in rows)
    height = min(WIDTH, int((WIDTH - GAP * (columns - 1)) / full))
    canvas = Image.new("RGBA", (WIDTH, len(rows) * (height + line + GAP) - GAP))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    for index, row in enumerate(rows):
        x, y = 0, index * (height + line + GAP)
        for picture, label in row:
            width = round(picture.width * height / picture.height)
            canvas.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, y))
            pen.text((x + width / 2, y + height + line / 2), label, GRAY, font, anchor="mm")
            x += width + GAP
    return canvas


def own_files(options: argparse.Namespace):
    from comfy.cli_args import args
    from likeness.demo.launcher.serve import has_gpu

    args.cpu = not has_gpu()  # must be set before ComfyUI looks for a device
    from likeness.docs import help_own

    return help_own.Own.of(options)


def main(options: argparse.Namespace) -> None:
    comfyui = Path(os.environ["COMFYUI_PATH"])
    runpy.run_path(str(ROOT / "demo" / "launcher" / "launch.py"))["alias_pack"](comfyui)
    from likeness.demo.launcher.client import Failed, Rejected
    from likeness.demo.launcher.host import Host
    from likeness.docs import help_pictures

    if unknown := set(options.nodes) - help_pictures.PICTURES.keys():
        sys.exit(f"expected ids of nodes with pictures, got {', '.join(sorted(unknown))}: see help_pictures.py.")
    own = own_files(options) if options.checkpoint else None
    out = options.out or (ROOT / "help_pictures" if own else ASSETS)
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "help_pictures.json" if own or options.out else KEPT
    digests = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    given = digest_of(iter(own.files())) if own else None
    change = {"change": own.change} if own else {}
    wanted = {
        picture.file: picture
        for name, pictures in help_pictures.PICTURES.items()
        for picture in pictures
        if (not options.nodes or name in options.nodes) and (own is None or own.draws(picture))
    }
    keys = {
        file: digest(picture, given or demo_weights(kinds_of(picture)), **change) for file, picture in wanted.items()
    }
    missing = [file for file in wanted if digests.get(file) != keys[file] or not (out / file).exists()]
    if not missing:
        print("every picture is up to date")
        return
    failed = []
    with Host(comfyui, cpu=own is None or own.cpu, setup=own.setup if own else joint_checkpoint) as host:
        object_info = host.client.object_info()
        for file in missing:
            try:
                made = draw(host, wanted[file], object_info, **change)
            except (Failed, Rejected) as error:  # a graph's own; the others may be drawn
                failed.append(file)
                print(file, error, flush=True)
                continue
            made.save(out / file, quality=QUALITY, method=6)
            digests[file] = keys[file]
            text = json.dumps(dict(sorted(digests.items())), indent=1)
            kept.write_text(f"{text}\n", encoding="utf-8", newline="\n")
            print(file, (out / file).stat().st_size, flush=True)
    if failed:
        sys.exit(f"not drawn: {', '.join(failed)}")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draws the pictures of the help pages.")
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="ids of nodes; none: all")
    parser.add_argument("--out", type=Path, help="folder of the pictures")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of your own, SD 1.x, SD 2.x or SDXL")
    parser.add_argument("--photos", type=Path, help="folder of the subject's photographs")
    parser.add_argument("--subject", help='the subject\'s class, such as "dog"')
    parser.add_argument("--lora", type=Path, help="the subject's LoRA")
    parser.add_argument("--token", default="", help='the words that the LoRA learned, such as "sks dog"')
    options = parser.parse_args(arguments)
    if options.checkpoint and not (options.photos and options.subject):
        parser.error("expected --photos FOLDER and --subject WORD beside --checkpoint: give both.")
    return options


if __name__ == "__main__":
    main(parsed(sys.argv[1:]))
