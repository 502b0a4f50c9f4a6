"""Clips and sentences as tensors, computed once, kept on disk, so that no step waits for an encoder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cascade.contracts.errors import WeightsError


class TensorCache:
    """A folder of safetensors files; several processes may fill it.

    Args:
        folder: where files are.
        secret: what everything in it depends on, such as the model's fingerprint.
    """

    def __init__(self, folder: Path, secret: str) -> None:
        self._folder, self._secret = folder, secret
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        name = hashlib.sha256(f"{self._secret}\n{key}".encode()).hexdigest()[:32]
        return self._folder / f"{name}.safetensors"

    def fill(self, key: str, make: Callable[[], dict[str, Tensor]]) -> None:
        """Make and write the tensors of a key unless they are there."""
        from safetensors.torch import save_file

        path = self.path(key)
        if path.is_file():
            return
        with torch.no_grad():
            made = {name: value.cpu().contiguous() for name, value in make().items()}
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file(made, partial)
        partial.replace(path)

    def read(self, key: str) -> dict[str, Any]:
        """Return the tensors of a key, on the CPU.

        Raises:
            WeightsError: the file is missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(key)
        try:
            found: dict[str, Any] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"{path}: expected an encoded clip, found none that can be read ({error}).",
                "Delete the folder; it is made anew. All processes need to see the same folder.",
            ) from error
        return found
