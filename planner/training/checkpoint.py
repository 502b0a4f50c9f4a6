"""State of a training run on disk, replaced as a whole and loaded without running any code in it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.contracts.errors import WeightsError

FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, nested) so that a reader sees the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    torch.save(state, partial)
    partial.replace(folder / FILE)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the saved state, or None when there is none.

    Raises:
        WeightsError: the file is corrupt.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path}: expected a training checkpoint, found a broken one ({error}).", "Delete it to start again."
        ) from error
    return state


def generator_state(rng: np.random.Generator) -> str:
    """Return a numpy generator's state as text."""
    return json.dumps(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: str) -> None:
    """Put a numpy generator into a saved state."""
    rng.bit_generator.state = json.loads(state)
