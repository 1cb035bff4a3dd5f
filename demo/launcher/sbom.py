"""List of what `run.py` installs (CycloneDX 1.6), made from the locks: `python -m demo.launcher.sbom` writes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from . import locks
from .files import ROOT, text_of
from .pins import HOSTS, RAY, SOURCE, TOOLS

FILE = locks.FOLDER / "sbom.cdx.json"
PROJECT = "https://github.com/comfyui-likeness/ComfyUI-Likeness"


def document() -> dict[str, Any]:
    """The list. Equal locks give an equal one, so that it has no time of its own."""
    read = {name: locks.read((locks.FOLDER / name).read_text(encoding="utf-8")) for name in locks.names()}
    parts = [*map(_host, HOSTS), *_components(read)]
    body = json.dumps(parts, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, PROJECT + body)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "likeness",
                "name": "ComfyUI-Likeness, as run.py installs it",
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
                "externalReferences": [{"type": "vcs", "url": PROJECT}],
            }
        },
        "components": parts,
        "dependencies": _dependencies(read),
    }


def _host(version: str) -> dict[str, Any]:
    """A private ComfyUI, with the archive that carries it."""
    release, sha256 = HOSTS[version]
    return {
        "type": "application",
        "bom-ref": f"comfyui@{version}",
        "name": "ComfyUI",
        "version": version,
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{SOURCE}/{release}/",
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
        ],
    }


def _components(read: Mapping[str, list[locks.Package]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for lock, packages in read.items():
        for package in packages:
            part = found.setdefault(
                package.url,
                {
                    "type": "library",
                    "bom-ref": package.url,
                    "name": package.name,
                    "version": package.version,
                    "purl": package.url,
                    "properties": [],
                },
            )
            # The hashes stand in the lock: which file is installed depends on the machine.
            part["properties"].append({"name": f"likeness:lock:{lock}", "value": package.marker or "everywhere"})
    return [found[url] for url in sorted(found)]


def _dependencies(read: Mapping[str, list[locks.Package]]) -> list[dict[str, Any]]:
    needs: dict[str, set[str]] = {"likeness": {f"comfyui@{version}" for version in HOSTS}}
    own = {
        *text_of(ROOT / "requirements.txt").split(),
        *(tool.partition("==")[0].partition("[")[0] for tool in (*TOOLS, *RAY)),
    }
    everything = [package for packages in read.values() for package in packages]
    for version in HOSTS:
        needs[f"comfyui@{version}"] = set()
    for package in everything:
        needs.setdefault(package.url, set())
    for lock, packages in read.items():
        for package in packages:
            for name in package.needed_by:
                # Torch and the host's packages stand in two locks and need each other's.
                for needing in packages if any(p.name == name for p in packages) else everything:
                    if needing.name == name:
                        needs[needing.url].add(package.url)
            if package.asked:
                asking = [f"comfyui@{v}" for v in HOSTS if lock in (locks.host_lock(v), locks.TORCH_LOCK)]
                for root in asking if package.name not in own else ["likeness"]:
                    needs[root].add(package.url)
    return [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)]


def text() -> str:
    """The list as it is written."""
    return json.dumps(document(), indent=1) + "\n"


def write() -> None:
    """Writes the list beside the locks."""
    FILE.write_text(text(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write()
