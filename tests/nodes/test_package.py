"""Files that the registry and the Manager read, and the contents of the published archive."""

import ast
import fnmatch
import hashlib
import re
import sys
from pathlib import Path

import pytest
import safetensors
from comfy_config import config_parser

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "demo" / "weights"
FORBIDDEN = {
    "subprocess",
    "socket",
    "urllib",
    "http",
    "requests",
    "aiohttp",
    "pickle",
    "marshal",
    "ctypes",
    "multiprocessing",
}


def lines(name: str) -> list[str]:
    found = (line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in found if line and not line.startswith("#")]


def ignored_patterns() -> list[str]:
    """Patterns of `.comfyignore`, relative to the pack's folder."""
    return [line.removeprefix("/") for line in lines(".comfyignore")]


def shipped() -> list[Path]:
    """The Python files that `.comfyignore` leaves in the published archive."""
    ignored = ignored_patterns()
    files = []
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(".") and not any(
            name.startswith(p) if p.endswith("/") else fnmatch.fnmatch(name, p) for p in ignored
        ):
            files.append(path)
    return files


def test_the_archive_holds_the_nodes_and_no_tools():
    names = {path.relative_to(ROOT).as_posix() for path in shipped()}
    assert {
        "__init__.py",
        "nodes/_api.py",
        "nodes/demo_model.py",
        "patching/tinyland/model.py",
        "kernels/diffusion.py",
    } <= names
    assert {name.split("/")[0] for name in names} == {"__init__.py", "nodes", "patching", "kernels"}


def test_patterns_of_the_archive_match_at_the_top_alone():
    """As in .gitignore, `docs/` would match web/docs too, and `run.py` a module of any folder."""
    assert [line for line in lines(".comfyignore") if not line.startswith("/")] == []


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_network_no_processes_no_evaluated_code(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & FORBIDDEN, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), f"line {node.lineno}"


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").rglob("*.py")), ids=lambda path: path.name)
def test_kernels_know_nothing_of_the_host(path):
    allowed = {*sys.stdlib_module_names, "torch", "numpy", "scipy"} | (
        {"triton"} if path.stem.endswith("_triton") else set()
    )
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] in allowed
        if isinstance(node, ast.ImportFrom) and node.level > 1:
            raise AssertionError(f"{path.name} imports from outside kernels/ (line {node.lineno})")


def test_the_registry_reads_the_project():
    found = config_parser.extract_node_configuration(str(ROOT))
    assert found.project.name == "likeness" and "comfyui" not in found.project.name.lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.project.version)
    assert found.project.license.text == "GPL-3.0-or-later"
    assert found.project.urls.repository.startswith("https://")
    assert re.fullmatch(r">=\d+\.\d+\.\d+", found.project.supported_comfyui_version)
    assert found.project.supported_os == ["OS Independent"]
    assert "GPU :: NVIDIA CUDA" in found.project.supported_accelerators  # one unknown value empties the list
    assert found.project.urls.issues.startswith("https://")
    assert found.tool_comfy.icon.endswith("docs/icon.png") and (ROOT / "docs" / "icon.png").is_file()
    assert found.tool_comfy.display_name == "Likeness" and found.tool_comfy.publisher_id
    assert not found.tool_comfy.web, "WEB_DIRECTORY serves the folder already"


def test_both_lists_of_requirements_agree():
    (written,) = re.findall(
        r"^dependencies = (\[.*?\])", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert ast.literal_eval(written) == lines("requirements.txt")


def test_requirements_never_touch_torch():
    assert [
        line for line in lines("requirements.txt") if re.match(r"(torch|numpy|xformers|comfyui)", line, re.IGNORECASE)
    ] == []


def test_the_license_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 3, 29 June 2007" in text and len(text) > 30_000


def test_weights_are_small_enough():
    sizes = {path: path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()}
    transformer = sum(size for path, size in sizes.items() if path.is_relative_to(WEIGHTS / "transformer"))
    transformer += sizes.get(WEIGHTS / "transformer.safetensors", 0)
    assert max(sizes.values()) < 16 * 2**20
    assert sum(sizes.values()) - transformer < 34 * 2**20 and transformer < 8 * 2**20


@pytest.mark.parametrize(
    "path", sorted(WEIGHTS.rglob("*.safetensors")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_weights_tell_where_they_come_from(path):
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - not a mapping
    assert kinds == ({"F16", "I8"} if "eight_bit" in metadata else {"F16"})
    assert re.fullmatch(r"[0-9a-f]{7,40}", metadata["commit"])
    assert metadata["seed"] == "0" and int(metadata["steps"]) > 0
    for entry, name in (("denoiser", "denoiser"), ("network", "transformer")):  # what it was trained on
        if entry in metadata:
            content = (WEIGHTS / f"{name}.safetensors").read_bytes()
            assert metadata[entry] == hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("folder", ["subjects", "embeddings"])
def test_every_subject_is_tuned_alike(folder):
    steps = {}
    for path in (WEIGHTS / folder).glob("*.safetensors"):
        with safetensors.safe_open(path, framework="pt") as file:
            steps[path.stem] = file.metadata()["steps"]
    assert len(steps) == 12 and len(set(steps.values())) == 1, steps


def test_links_of_the_readme_work_in_the_archive():
    ignored = [line for line in ignored_patterns() if line.endswith("/")]
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    relative = [target for target in targets if not target.startswith("https://")]
    assert [t for t in relative if t.startswith(tuple(ignored)) or not (ROOT / t).exists()] == []
