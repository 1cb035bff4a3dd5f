"""Loading of networks through transformers: from local files alone, whole, and never as code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from .weights import Weights

OPTIONS: dict[str, Any] = {"local_files_only": True, "weights_only": True, "output_loading_info": True}
"""Arguments of `from_pretrained`: no download, and no code of a pickled file."""
_REFUSED = torch.serialization.pickle.UnpicklingError  # raised by torch for a file with more than weights in it
_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError, _REFUSED)


def network(known: Weights, folder: Path, load: Callable[[], tuple[Any, dict[str, Any]]]) -> Any:
    """Network in float32. load: gives it with what transformers says of the loading.

    Raises ValueError for files that are no whole network of this kind.
    """
    try:
        found, said = load()
    except _ERRORS as error:
        raise _refused(known, folder, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}") from error
    # Without this, transformers fills tensors that are missing with random numbers.
    if missing := [*map(str, sorted(said["missing_keys"])), *map(str, said["mismatched_keys"])]:
        raise _refused(known, folder, f"{len(missing)} tensors are missing, such as {missing[0]}")
    return found.requires_grad_(False).float()


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
