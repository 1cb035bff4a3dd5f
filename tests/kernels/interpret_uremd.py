"""Runs cases of UREMD in Triton's interpreter: python interpret_uremd.py CASES RESULTS, both files of torch.save.

Runs in a process of its own, because Triton reads TRITON_INTERPRET when it is imported, which another test may do.
"""

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from kernels import uremd_triton
from kernels.uremd import TRITON, uremd

results = []
for case in torch.load(sys.argv[1]):
    uremd_triton._PROCESSORS_OF_INTERPRETER = case.pop("processors", 1)
    generated, palette = case["generated"].requires_grad_(), case["palette"].requires_grad_()
    if case.pop("inference", False):
        with torch.inference_mode():
            case["palette"] = palette.clone()
    value = uremd(**case, implementation=TRITON)
    gradients = torch.autograd.grad(value, [generated, palette], allow_unused=True)
    index = uremd_triton.nearest(generated, palette)
    results.append(
        {"value": value.detach(), "gradient": gradients[0], "palette_gradient": gradients[1], "index": index}
    )
torch.save(results, sys.argv[2])
