"""Makes shards of stand-ins: python driver.py OUT tinyland|servers [OPTION ...] with the options of `s3 make`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

LAB = Path(__file__).resolve().parents[1]
SETS, PER_SHARD = 16, 8
SLOTS = {"collage": ("prompt", "seed"), "inpaint": ("picture", "prompt", "seed")}


def drawn(stage: str, out: Path) -> dict[str, Any]:
    """Facts of a stage whose workflow the stand-in of ComfyUI draws."""
    from likeness.lab.s3 import graphs

    keys = {"picture": "image", "prompt": "text", "seed": "seed"}
    title = "Draws [" + ", ".join(f"{keys[slot]}={slot}" for slot in SLOTS[stage]) + "]"
    inputs = {"wait": 0.3, "side": 96, "text": "", "seed": 0} | ({"image": ""} if stage == "inpaint" else {})
    nodes = {
        "1": {"class_type": "KSampler", "inputs": inputs, "_meta": {"title": title}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Shows [result]"}},
    }
    path = out / f"{stage}-drawn.json"
    path.write_text(json.dumps(nodes))
    return graphs.load(stage, str(path))


def served(out: Path) -> dict[str, Any]:
    """Stages of a plan that draws collages and backgrounds on servers, between the instances of a folder."""
    from PIL import Image

    for number in range(SETS):
        for instance in range(3):
            path = out / "cuts" / f"{number:07d}" / f"{instance}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (32, 24 + instance), (10 * number, 80 * instance, 90, 255)).save(path)
    return {
        "prompts": {"by": "template"},
        "collage": drawn("collage", out),
        "segment": {"by": "folder", "path": str(out / "cuts")},
        "filter": {"by": "none", "network": "none", "threshold": 0.0},
        "inpaint": drawn("inpaint", out),
        "restyle": {"by": "none", "share": 0.0, "styles": []},
        "caption": {"by": "scene"},
    }


def main() -> None:
    spec = importlib.util.spec_from_file_location("launch", LAB.parents[1] / "demo" / "launcher" / "launch.py")
    assert spec is not None and spec.loader is not None
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.alias_pack(Path(os.environ["COMFYUI_PATH"]))
    from likeness.lab.farm import session
    from likeness.lab.s3 import command, prompts, smoke
    from likeness.lab.s3.plan import Plan
    from likeness.lab.s3.tinyland import TinylandWriter

    session.STORE = 150 * 2**20
    out, kind, *options = Path(sys.argv[1]), *sys.argv[2:]
    facts = smoke.facts(sets=SETS, per_shard=PER_SHARD)
    if kind == "servers":
        facts["stages"] = served(out)
        os.environ["COMFYUI_PATH"] = str(LAB / "farm" / "fake_comfyui")
        os.environ.pop("LIKENESS_PYTHON", None)
    plan = Plan(out / "s3", facts)
    plan.write()
    prompts.fill(plan, plan.facts["objects"], TinylandWriter() if kind == "tinyland" else None, lambda _: None)
    command.main(["make", str(plan.folder), "--models", str(out), "--cpu", *options])


if __name__ == "__main__":
    main()
