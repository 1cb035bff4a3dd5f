"""Draws docs/architecture.svg from the imports of the code: python docs/draw_architecture.py

Needs the standard library alone. Boxes are folders with their files; an arrow leads to the floor below, where the
imported code is; the row of names at a box's foot lists every folder that it imports.
"""

from __future__ import annotations

import ast
import functools
import itertools
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

PURPOSES = {
    "nodes": "Schemas that ComfyUI shows, with one call each",
    "patching/subject": "One subject and one prompt for all papers; may import them",
    "patching/evaluation": "Metrics of pictures: embeddings, masks",
    "patching/layout_and_retouch": "arXiv 2407.09779",
    "patching/pick_and_draw": "arXiv 2401.16762",
    "patching/jedi": "arXiv 2407.06187",
    "patching/tinyland": "Bundled demo model",
    "patching/features": "Pictures that a run borrows from: read, kept, lent. Knows no paper",
    "patching/host": "Seam to ComfyUI: runs, patches, families, passes, gradients. Knows no paper, no reference",
    "kernels": "Mathematics: one function for each equation. Knows no ComfyUI",
    "demo": "Bundled world, its trainer, launcher",
    "benchmarks": "Side-by-side measurements",
    "lab": "Evaluation on real weights",
}
"""The folders of the picture; a file belongs to the longest one that its path begins with."""
COLORS = {
    "nodes": "#4f46e5",
    "patching/subject": "#7c3aed",
    "patching/evaluation": "#7c3aed",
    "patching/layout_and_retouch": "#0d9488",
    "patching/pick_and_draw": "#0d9488",
    "patching/jedi": "#0d9488",
    "patching/tinyland": "#64748b",
    "patching/features": "#2563eb",
    "patching/host": "#b45309",
    "kernels": "#be123c",
    "demo": "#64748b",
    "benchmarks": "#64748b",
    "lab": "#64748b",
}
SANS = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
INK, QUIET, LINE, PAPER, WALL = "#0f172a", "#64748b", "#94a3b8", "#ffffff", "#f1f5f9"
PAD, HEAD, ROW, CHIP, GAP, LETTER = 14, 52, 18, 22, 46, 6.9
CHIP_LETTER = 11 * 0.605
"""Width of a letter in a chip; monospaced, because the width of a proportional text depends on the reader's fonts."""
WIDTH, LEFT, MIDDLE, BESIDE = 1280, 28, 900, 276


def folder_of(path: Path) -> str:
    """The folder of the picture that a file belongs to; an empty text for a file in none."""
    name = path.relative_to(ROOT).as_posix()
    return max((folder for folder in PURPOSES if name.startswith(f"{folder}/")), key=len, default="")


def files_of(folder: str) -> list[Path]:
    """The Python files of a folder of the picture, by name, without the ones that hold a docstring alone."""
    found = [path for path in sorted((ROOT / folder).rglob("*.py")) if folder_of(path) == folder]
    return [path for path in found if path.name != "__init__.py"]


def imported(path: Path) -> set[Path]:
    """The files and folders of the pack that a file imports, inside functions and for type checkers included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            found |= {base / alias.name for alias in node.names}
    return found


@functools.cache
def imports() -> dict[str, set[str]]:
    """For each folder of the picture, the other folders that its files import."""
    found: dict[str, set[str]] = {folder: set() for folder in PURPOSES}
    for folder in PURPOSES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if folder_of(path) == folder:
                found[folder] |= {folder_of(target) for target in imported(path)} - {folder, ""}
    return found


@dataclass(frozen=True)
class Box:
    folder: str
    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def center(self) -> int:
        return self.left + self.width // 2


def text(x: float, y: float, words: str, size: int, color: str = INK, family: str = SANS, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    style = f'font-family="{family}" font-size="{size}" fill="{color}"{weight}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def names_of(folder: str) -> list[str]:
    """File names without their ending; those of a subfolder are counted in one line."""
    files, subfolders = [], {}
    for path in files_of(folder):
        parts = path.relative_to(ROOT / folder).parts
        if len(parts) == 1:
            files.append(path.stem)
        else:
            subfolders[parts[0]] = subfolders.get(parts[0], 0) + 1
    return [f"{name}/ ({count})" for name, count in subfolders.items()] + files


def columns_of(folder: str, width: int) -> tuple[int, int]:
    """How many columns of names fit into a box, and how many rows they take."""
    names = names_of(folder)
    columns = max(1, int((width - 2 * PAD) // (LETTER * (max(map(len, names)) + 3))))
    return columns, -(-len(names) // columns)


def chips(folder: str, width: int) -> list[tuple[str, int, int, int]]:
    """The imported folders, in the order of the picture: each with its place (x, y) and its width in a box's foot."""
    found, x, y = [], 0, 0
    for target in (target for target in PURPOSES if target in imports()[folder]):
        size = round(CHIP_LETTER * len(target.split("/")[-1])) + 16
        if x + size > width - 2 * PAD + 4:
            x, y = 0, y + CHIP
        found.append((target, x, y, size))
        x += size + 5
    return found


def height_of(folder: str, width: int) -> int:
    lines = max((y for _, _, y, _ in chips(folder, width)), default=-CHIP) // CHIP + 1
    return HEAD + ROW * columns_of(folder, width)[1] + 12 + CHIP * lines + (6 if lines else 0)


def drawn_box(box: Box) -> list[str]:
    color, name = COLORS[box.folder], box.folder.split("/")[-1]
    parts = [
        f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}" rx="10" fill="{PAPER}" '
        f'stroke="{color}" stroke-width="1.5"/>',
        f'<rect x="{box.left}" y="{box.top + 10}" width="4" height="{box.height - 20}" fill="{color}"/>',
        text(box.left + PAD + 2, box.top + 22, f"{name}/", 15, color, SANS, bold=True),
        text(box.left + PAD + 2, box.top + 39, PURPOSES[box.folder], 12, QUIET),
    ]
    names, (columns, rows) = names_of(box.folder), columns_of(box.folder, box.width)
    for i, entry in enumerate(names):
        x = box.left + PAD + 2 + (i // rows) * ((box.width - 2 * PAD) / columns)
        parts.append(text(x, box.top + HEAD + 12 + ROW * (i % rows), entry, 12, INK, MONO))
    feet = chips(box.folder, box.width)
    top = box.bottom - 12 - (feet[-1][2] + 17 if feet else 0)
    for target, x, y, width in feet:
        x, y = box.left + PAD + 2 + x, top + y
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="17" rx="8.5" fill="{COLORS[target]}"/>')
        parts.append(text(x + 8, y + 12.5, target.split("/")[-1], 11, PAPER, MONO))
    return parts


def arrow(points: list[tuple[float, float]], color: str) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" marker-end="url(#head)"/>'


def placed() -> tuple[list[list[Box]], list[Box]]:
    """The boxes of each floor from the top, and those beside the floors."""
    papers = [folder for folder in PURPOSES if folder.startswith("patching/")][2:6]
    above, below = (
        [["nodes"], ["patching/subject", "patching/evaluation"]],
        [["patching/features"], ["patching/host"], ["kernels"]],
    )
    floors, rows, top = [*above, papers, *below], [], 92
    for floor in floors:
        inset = 22 if floor[0].startswith("patching/") else 0
        width = (MIDDLE - 2 * inset - 24 * (len(floor) - 1)) // len(floor)
        height = max(height_of(folder, width) for folder in floor)
        rows.append([Box(f, LEFT + inset + i * (width + 24), top, width, height) for i, f in enumerate(floor)])
        top += height + GAP + (24 if floor[0] in ("nodes", "patching/host") else 0)
    top, beside = rows[0][0].top, []
    for folder in ("benchmarks", "lab", "demo"):
        beside.append(Box(folder, WIDTH - LEFT - BESIDE, top, BESIDE, height_of(folder, BESIDE)))
        top += beside[-1].height + GAP
    return rows, beside


def picture() -> str:
    """The whole picture as the text of an SVG file."""
    rows, beside = placed()
    known, first, last = imports(), rows[1][0], rows[4][0]
    height = max(rows[-1][0].bottom, beside[-1].bottom) + 30
    house = Box("patching", LEFT, first.top - 36, MIDDLE, last.bottom - first.top + 54)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="The folders of ComfyUI-Likeness and what they import">',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0.8 L9.5,5 L0,9.2 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="14" fill="#f8fafc"/>',
        text(LEFT, 42, "ComfyUI-Likeness: its floors and their imports", 21, INK, SANS, bold=True),
        text(
            LEFT,
            66,
            "Imports point down, and no paper imports another. Colored names are all the folders that a box imports.",
            13,
            QUIET,
        ),
        f'<rect x="{house.left}" y="{house.top}" width="{house.width}" height="{house.height}" rx="12" fill="{WALL}" '
        f'stroke="{LINE}" stroke-dasharray="5 4"/>',
        text(house.left + 22, house.top + 24, "patching/", 15, INK, SANS, bold=True),
        text(house.left + 106, house.top + 24, "patches of models, guiders and features", 12, QUIET),
    ]
    inner = {box.folder for row in rows[1:5] for box in row}
    floors = [rows[0], [house], rows[5]]
    known["patching"] = set().union(*(known[folder] for folder in inner))
    known["nodes"] |= {"patching"} if known["nodes"] & inner else set()
    for upper, lower in [*itertools.pairwise(floors), (rows[1], rows[2]), (rows[2], rows[3]), (rows[3], rows[4])]:
        for above, below in ((a, b) for a in upper for b in lower if b.folder in known[a.folder]):
            x = above.center if above.width < below.width else below.center
            parts.append(arrow([(x, above.bottom), (x, below.top - 2)], LINE))
    for row in rows[1:5]:
        for a, b in ((a, b) for a in row for b in row if b.folder in known[a.folder]):
            y = a.top + a.height // 2
            start, end = (a.right, b.left - 2) if a.left < b.left else (a.left, b.right + 2)
            parts.append(arrow([(start, y), (end, y)], LINE))
    for box in beside:
        if known[box.folder] & inner:
            y = max(box.top, house.top) + 40
            parts.append(arrow([(box.left, y), (house.right + 2, y)], LINE))
    for above, below in ((a, b) for a in beside for b in beside if b.folder in known[a.folder]):
        parts.append(arrow([(above.center, above.bottom), (above.center, below.top - 2)], LINE))
    for box in [box for row in rows for box in row] + beside:
        parts += drawn_box(box)
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8", newline="\n")
    print(f"drew {PICTURE.relative_to(ROOT)}")
