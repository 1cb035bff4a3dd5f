"""The pack's safetensors files below ComfyUI's output folder: written atomically, never outside the folder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import folder_paths
import safetensors
import torch
from safetensors.torch import save_file

from . import file_names
from .checks import single
from .facts import check_finite, named, tensor
from .quoted import shortened

T = TypeVar("T")

_UNFINISHED = ".tmp"
_STALE_AFTER = 600.0
"""Seconds after which nothing writes to an unfinished file any more."""
_LONGEST_REASON, _LONGEST_VERSION = 160, 20
_OBJECTS = ("cross_attn", "pooled_output", "model_conds", "transformer_options")
"""Entries of a CONDITIONING that the host never holds as numbers or texts."""


@dataclass(frozen=True)
class Store:
    """One kind of file.

    folder: below the output folder. form, version: its format in the metadata. what: the noun in messages. saver,
    loader: the titles of the nodes that save and load.
    """

    folder: str
    form: str
    version: int
    what: str
    saver: str
    loader: str

    @property
    def nothing(self) -> str:
        """Entry of the file list if there are no files."""
        return f"none saved yet: use {self.saver}"

    @property
    def _root(self) -> Path:
        return Path(folder_paths.get_output_directory()) / self.folder

    def write(self, prefix: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Path:
        """Writes a numbered file and returns its path. It has a temporary name until it is complete.

        Raises ValueError for a prefix that leads out of the folder or makes no name of a file, OSError where the
        file cannot be written.
        """
        self.check_prefix(prefix)
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            f"{self.folder}/{prefix}", folder_paths.get_output_directory()
        )
        _remove_stale(Path(folder))
        path = Path(folder) / f"{name}_{counter:05}_.safetensors"
        temporary = path.with_suffix(_UNFINISHED)
        facts = {"format": self.form, "version": str(self.version), **metadata}
        # safetensors refuses tensors that share memory, such as one caption of several pictures.
        copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        try:
            save_file(copies, temporary, metadata=facts)
            temporary.replace(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise OSError(
                f"{self.saver}: expected to write {path}, got an error ({brief(error)}); free disk space, or change "
                "filename_prefix."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def check_prefix(self, prefix: str) -> None:
        """Raises ValueError for a prefix that leads out of the folder or makes no name of a file."""
        if not self._holds(prefix):
            raise ValueError(
                f"{self.saver}: expected a name below output/{self.folder}, got {shortened(prefix, 80)!r}; change "
                "filename_prefix."
            )
        if not file_names.fits(prefix):
            also = file_names.ALSO_ON_WINDOWS if file_names.WINDOWS else ""
            raise ValueError(
                f"{self.saver}: expected a name of a file, of at most {file_names.LONGEST} bytes between slashes"
                f"{also}, got {shortened(prefix, 80)!r}; change filename_prefix."
            )

    def _holds(self, prefix: str) -> bool:
        root = self._root.resolve()
        try:
            path = (self._root / prefix).resolve()
        except (ValueError, OSError):
            return True  # no name of a file at all
        return path != root and path.is_relative_to(root)

    def names(self) -> list[str]:
        """Names of the saved files, relative to the folder, sorted. Links that lead out of it are none of them."""
        root = self._root.resolve()
        return (
            sorted(p.relative_to(self._root).as_posix() for p in self._root.rglob("*.safetensors") if _inside(p, root))
            if self._root.is_dir()
            else []
        )

    def path_of(self, name: str) -> Path | None:
        """The path of a name listed by `names`, else None, so that no name leads out of the folder."""
        return self._root / name if name in self.names() else None

    def existing(self, name: str) -> Path:
        """The path of a name listed by `names`. Raises FileNotFoundError for another one."""
        path, names = self.path_of(name), self.names()
        if path is None:
            advice = f"choose one of {', '.join(names)}" if names else f"save one with {self.saver} first"
            got = "none" if name == self.nothing else repr(name)
            raise FileNotFoundError(f"{self.loader}: expected a saved {self.what}, got {got}; {advice}.")
        return path

    def read(self, name: str, make: Callable[[dict[str, torch.Tensor], dict[str, str]], T]) -> T:
        """make(tensors, metadata) of a file.

        Raises FileNotFoundError for an unknown name, ValueError for a broken file or another format.
        """
        path = self.existing(name)
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except Exception as error:  # the reader of foreign bytes raises nothing narrower
            raise ValueError(
                f"{self.loader}: expected a whole safetensors file, got {name} ({brief(error)}); save the {self.what} "
                "again."
            ) from error
        if metadata.get("format") != self.form or metadata.get("version") != str(self.version):
            got = "another kind of file"
            if metadata.get("format") == self.form:
                got = f"version {metadata.get('version', 'unknown')[:_LONGEST_VERSION]!r}"
            raise ValueError(
                f"{self.loader}: expected a {self.what} of version {self.version}, got {got} in {name}; save the "
                f"{self.what} again with {self.saver}."
            )
        try:
            return make(tensors, metadata)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{self.loader}: expected a complete {self.what}, got {name}, in which something is missing or wrong "
                f"({brief(error)}); save it again."
            ) from error


def brief(error: Exception) -> str:
    """First line of an error's text, not too long for a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0][:_LONGEST_REASON].rstrip(".: ") if lines else "") or type(error).__name__


def _remove_stale(folder: Path) -> None:
    """Removes what a server that was killed while it wrote has left unfinished."""
    for path in folder.glob(f"*_{_UNFINISHED}"):
        with contextlib.suppress(OSError):  # another process may be quicker
            if time.time() - path.stat().st_mtime > _STALE_AFTER:
                path.unlink()


def _inside(path: Path, root: Path) -> bool:
    # A pipe would never end, and a link may lead anywhere.
    return path.is_file() and path.resolve().is_relative_to(root)


def conditioning_parts(name: str, conditioning: list) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of a plain prompt, keyed by `name.…`, and its numbers and texts."""
    text, rest = conditioning[0]
    tensors = {f"{name}.text": text} | {f"{name}.cond.{k}": v for k, v in rest.items() if isinstance(v, torch.Tensor)}
    return tensors, {k: v for k, v in rest.items() if isinstance(v, int | float | str)}


def conditioning_of(name: str, tensors: Mapping[str, torch.Tensor], numbers: object, node: str) -> list:
    """The CONDITIONING that `conditioning_parts` split; raises ValueError if it is no plain prompt."""
    start = f"{name}.cond."
    text = tensor(tensors, f"{name}.text", 3)
    values = {k.removeprefix(start): v.clone() for k, v in tensors.items() if k.startswith(start)}
    for key, value in values.items():
        if value.is_floating_point():
            check_finite(value, key)
    rest: dict[str, object] = {**values}
    for key, value in named(numbers, "a prompt").items():
        unknown = key in _OBJECTS or not isinstance(value, int | float | str)
        if unknown or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{key} of a prompt is {value!r}")
        rest[key] = value
    conditioning = [[text, rest]]
    single(conditioning, node)
    return conditioning
