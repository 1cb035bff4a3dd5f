"""Benchmark of a few small cells of the bundled model, for workers in processes of their own.

A file named by LIKENESS_TEST_DIES ends the process that draws next, and is gone then.
"""

import os
import signal
from pathlib import Path

from likeness.benchmarks import generate
from likeness.benchmarks.grid import Grid
from likeness.benchmarks.jedi_comparison import JointSets, Recipe
from likeness.benchmarks.kept import Kept
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.tinyland import model as tinyland

MODULE = "likeness.tests.lab.bench.tiny"
ROWS = ("joint_1", "lora")
GRID = Grid(tuple(SUBJECTS.values())[:2], prompts=2, seeds=1)
CELLS = len(ROWS) * len(GRID.subjects) * GRID.prompts


class Mortal(JointSets):
    def cell(self, name, subject, where, seeds):
        mark = Path(os.environ.get("LIKENESS_TEST_DIES", "no such file"))
        if mark.is_file():
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().cell(name, subject, where, seeds)


def sweeps(quick, weights=tinyland.WEIGHTS):
    settings, recipe = generate.Settings(steps=2 if quick else 3), Recipe()
    kept = Kept.of("tiny", "jedi_comparison", (settings, recipe), weights, ("autoencoder", "denoiser", "joint"))
    sets = Mortal(weights, settings, recipe)
    return {name: sets.sweep(name, GRID, kept) for name in ROWS}
