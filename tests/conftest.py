"""Makes the pack importable as `likeness` and the host's modules importable, without our nodes/ hiding ComfyUI's nodes.py."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _launch():
    spec = importlib.util.spec_from_file_location("likeness_launch", ROOT / "demo" / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOST = Path(os.environ["COMFYUI_PATH"]).resolve() if "COMFYUI_PATH" in os.environ else None
_launch().alias_pack(HOST)

if HOST is None:
    collect_ignore = ["patching", "nodes", "server", "browser", "demo", "benchmarks"]
else:
    from comfy.cli_args import args

    args.cpu = True
    args.use_pytorch_cross_attention = True
    import nodes

    assert Path(nodes.__file__).resolve().parent == HOST, f"ComfyUI's nodes.py is hidden by {nodes.__file__}"
    sys.modules.setdefault("likeness_conftest", sys.modules[__name__])
