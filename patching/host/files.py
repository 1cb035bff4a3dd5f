"""The pack's safetensors files below ComfyUI's output folder: written atomically, never outside the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import folder_paths
import safetensors
import torch
from safetensors.torch import save_file

from .checks import single

T = TypeVar("T")


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

        Raises ValueError for a prefix that leads out of the folder.
        """
        self.check_prefix(prefix)
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            f"{self.folder}/{prefix}", folder_paths.get_output_directory()
        )
        path = Path(folder) / f"{name}_{counter:05}_.safetensors"
        temporary = path.with_suffix(".tmp")
        facts = {"format": self.form, "version": str(self.version), **metadata}
        # safetensors refuses tensors that share memory, such as one caption of several pictures.
        copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        try:
            save_file(copies, temporary, metadata=facts)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def check_prefix(self, prefix: str) -> None:
        """Raises ValueError for a prefix that leads out of the folder."""
        if not (self._root / prefix).resolve().is_relative_to(self._root.resolve()):
            raise ValueError(
                f"{self.saver}: expected a name below output/{self.folder}, got {prefix!r}; change filename_prefix."
            )

    def names(self) -> list[str]:
        """Names of the saved files, relative to the folder, sorted."""
        return (
            sorted(p.relative_to(self._root).as_posix() for p in self._root.rglob("*.safetensors"))
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
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.loader}: expected a whole safetensors file, got {name} ({error}); save the {self.what} again."
            ) from error
        if metadata.get("format") != self.form or metadata.get("version") != str(self.version):
            got = "another kind of file"
            if metadata.get("format") == self.form:
                got = f"version {metadata.get('version') or 'unknown'}"
            raise ValueError(
                f"{self.loader}: expected a {self.what} of version {self.version}, got {got} in {name}; save the "
                f"{self.what} again with {self.saver}."
            )
        try:
            return make(tensors, metadata)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"{self.loader}: expected a complete {self.what}, got {name} without some of it ({error}); save it "
                "again."
            ) from error


def conditioning_parts(name: str, conditioning: list) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of a plain prompt, keyed by `name.…`, and its numbers and texts."""
    text, rest = conditioning[0]
    tensors = {f"{name}.text": text} | {f"{name}.cond.{k}": v for k, v in rest.items() if isinstance(v, torch.Tensor)}
    return tensors, {k: v for k, v in rest.items() if isinstance(v, int | float | str)}


def conditioning_of(name: str, tensors: Mapping[str, torch.Tensor], numbers: Mapping, node: str) -> list:
    """The CONDITIONING that `conditioning_parts` split; raises ValueError if it is no plain prompt."""
    start = f"{name}.cond."
    conditioning = [
        [
            tensors[f"{name}.text"],
            {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)} | dict(numbers),
        ]
    ]
    single(conditioning, node)
    return conditioning
