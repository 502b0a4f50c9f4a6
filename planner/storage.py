"""Networks on disk: bfloat16 as diffusers writes it, or 8 bits per weight (`cascade.contracts.compact`).

Both forms lie beside the network's config.json and are told apart by their file names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts.compact import COMPACT_FILE, packed, unpacked

if TYPE_CHECKING:
    import torch

__all__ = ["load_network", "packed", "save_network", "unpacked"]


def save_network(network: Any, folder: Path, *, compact: bool) -> None:
    """Write a network of diffusers' ModelMixin into `folder`."""
    import copy

    import torch
    from safetensors.torch import save_file

    if compact:
        folder.mkdir(parents=True, exist_ok=True)
        network.save_config(folder)
        save_file(packed(network.state_dict()), str(folder / COMPACT_FILE))
        return
    halved = copy.deepcopy(network).to(device="cpu", dtype=torch.bfloat16, memory_format=torch.contiguous_format)
    halved.save_pretrained(folder, safe_serialization=True)


def load_network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Read a network of class `kind` in either form, on the CPU."""
    import torch
    from safetensors.torch import load_file

    if not (folder / COMPACT_FILE).is_file():
        return kind.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=False)

    network = kind.from_config(kind.load_config(folder))
    network.load_state_dict(unpacked(load_file(str(folder / COMPACT_FILE))))
    return torch.nn.Module.to(network, dtype=dtype)  # diffusers' own `to` warns of a difference that is not there
