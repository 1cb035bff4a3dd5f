"""Loading of networks through transformers: from local files alone, whole, and never as code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..host.files import brief
from .weights import Weights

OPTIONS: dict[str, Any] = {
    "local_files_only": True,
    "weights_only": True,
    "trust_remote_code": False,
    "output_loading_info": True,
}
"""Arguments of `from_pretrained`: no download, no code of a pickled file, and none of the folder."""
_ELSEWHERE = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "quantization_config",
)
"""Settings by which a network's config names code outside of transformers."""
_MOST_CONFIG = 1 << 20


def network(known: Weights, folder: Path, load: Callable[[], tuple[Any, dict[str, Any]]]) -> Any:
    """Network in float32. load: gives it with what transformers says of the loading.

    Raises ValueError for files that are no whole network of this kind.
    """
    try:
        check_config(folder)
        found, said = load()
    except Exception as error:  # transformers and the readers of foreign bytes raise nothing narrower
        raise _refused(known, folder, f"{type(error).__name__}: {brief(error)}") from error
    # Without this, transformers fills tensors that are missing with random numbers.
    if missing := [*map(str, sorted(said["missing_keys"])), *map(str, said["mismatched_keys"])]:
        raise _refused(known, folder, f"{len(missing)} tensors are missing, such as {missing[0]}")
    return found.requires_grad_(False).float()


def check_config(folder: Path) -> None:
    """Raises ValueError for a config that names code or weights elsewhere, which transformers might fetch."""
    if (folder / "adapter_config.json").exists():
        raise ValueError("adapter_config.json names other weights")
    file = folder / "config.json"
    if file.stat().st_size > _MOST_CONFIG:
        raise ValueError("config.json is too large")
    config = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, *(config.get(name) for name in ("text_config", "vision_config", "qformer_config"))):
        for name in _ELSEWHERE:
            if isinstance(part, dict) and part.get(name) not in (None, "eager", "sdpa"):
                raise ValueError(f"config.json names {name}")


def tokenizer(known: Weights, folder: Path, kind: str = "CLIPTokenizer") -> Any:
    """Tokenizer of a network's folder. kind: its class in transformers. Raises ValueError for broken files."""
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers' library raises nothing narrower
        raise _refused(known, folder, f"its tokenizer has a {type(error).__name__}") from error


def _refused(known: Weights, folder: Path, why: str) -> ValueError:
    return ValueError(
        f"Expected the whole network {known.name} in {folder}, got files that cannot be loaded as weights alone "
        f"({why.rstrip('.')}); put those of huggingface.co/{known.repository} there again."
    )
