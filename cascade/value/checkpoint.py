"""Checkpoints of a training of the value: safetensors, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cascade.contracts.errors import ConfigError, WeightsError

FILE = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path, signature: str, network: nn.Module, optimiser: torch.optim.Optimizer, epoch: int
) -> None:
    """Write what a run needs to go on after `epoch` epochs.

    Raises:
        ConfigError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for number, kept in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value.contiguous() for name, value in kept.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{FILE}.part"
        save_file(tensors, str(partial), metadata={"signature": signature, "epoch": str(epoch)})
        partial.replace(folder / FILE)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}).", "Choose another folder.") from error


def load_checkpoint(folder: Path, signature: str) -> dict[str, Any] | None:
    """Return network, optimiser and epoch of the last checkpoint, or None where there is none.

    Raises:
        ConfigError: it belongs to a run with other options or data.
        WeightsError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}).", "Begin anew in another folder.") from error
    if header.get("signature") != signature:
        raise ConfigError(f"{folder}: holds a run with other options or other data.", "Choose another folder.")
    state: dict[str, Any] = {"epoch": int(header["epoch"]), "network": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "network":
            state["network"][rest] = value
        else:
            number, _, key = rest.partition(".")
            state["optimiser"].setdefault(int(number), {})[key] = value
    return state
