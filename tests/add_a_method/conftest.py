"""Makes the three files importable where they would stand in the pack: `likeness.kernels.style_aligned` and so on."""

from pathlib import Path

from likeness import kernels, nodes, patching

HERE = Path(__file__).resolve().parent
for package in (kernels, patching, nodes):
    package.__path__.append(str(HERE / package.__name__.split(".")[-1]))
