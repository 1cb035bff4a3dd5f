"""`run.py serve`: ComfyUI in the browser with the pack, its demo model and its workflows, in a folder in the cache."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path

import torch

from .files import try_lock
from .host import Host, HostError, prepare

WHEELS = {"NVIDIA": "an older CUDA", "AMD": "ROCm"}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="run.py serve", description=__doc__, epilog="Further arguments go to ComfyUI's main.py."
    )
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU; the default without a GPU")
    options, further = parser.parse_known_args(arguments)
    if in_use(options.port):
        raise SystemExit(f"serve: port {options.port} is in use: stop what uses it, or choose another with --port.")
    base = Path(os.environ["LIKENESS_CACHE"]) / "serve"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("a+b") as lock:
        if not try_lock(lock):
            raise SystemExit(
                f"serve: another one runs in {base}: stop it first, or set LIKENESS_CACHE to another folder."
            )
        run(base, options, tuple(further))


def run(base: Path, options: argparse.Namespace, further: tuple[str, ...]) -> None:
    """Runs the server until it is stopped."""
    prepare(base)
    gpu = has_gpu()
    if not gpu and not options.cpu and (maker := maker_of_gpu()):
        print(
            f"serve: torch {torch.__version__} cannot use the {maker} GPU of this machine, so the CPU draws: update "
            f"the GPU's driver, or set LIKENESS_TORCH_INDEX to PyTorch's index for {WHEELS[maker]} and run again.",
            flush=True,
        )
    host = Host(
        Path(os.environ["COMFYUI_PATH"]),
        base,
        cpu=options.cpu or not gpu,
        port=options.port,
        arguments=("--preview-method", "auto", *further),
        ready_within=600.0,
    )
    address = f"http://127.0.0.1:{options.port}"
    try:
        with host:
            print(f"ComfyUI is at {address}; our workflows are in its template browser under likeness.", flush=True)
            print(f"Its pictures go to {base / 'output'}, its messages to {host.log}. Ctrl-C stops it.", flush=True)
            if not options.no_browser and has_display():
                webbrowser.open(address)
            status = host.wait()
            if status != 0:
                raise HostError(f"ComfyUI ended with code {status}; its last lines:\n{host.last_lines()}")
    except HostError as error:
        raise SystemExit(f"serve: {error}") from error
    except KeyboardInterrupt:
        print("serve: stopped.", flush=True)


def has_display() -> bool:
    """True if a graphical browser can open; without a display a text browser could take over the terminal."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def maker_of_gpu() -> str | None:
    """Maker of a GPU that the system's driver shows, whatever torch can use."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        listed = ""
    if listed.startswith("GPU 0"):
        return "NVIDIA"
    return "AMD" if Path("/dev/kfd").exists() else None


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
