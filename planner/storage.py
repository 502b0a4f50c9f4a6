"""Networks on disk: bfloat16 as diffusers writes it, or a quarter of float32: 8 bits per weight, a scale per channel.

Large tensors become int8 with one float32 scale for each output channel (dimension 0); small ones (biases, norms) stay
in float16. Both forms lie beside the network's config.json and are told apart by their file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts.errors import WeightsError

if TYPE_CHECKING:
    import torch

COMPACT = "diffusion_pytorch_model.int8.safetensors"
_SCALE = ":scale"
_SMALL = 1024  # tensors below this are kept in float16: they weigh nothing and are often norms


def packed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return 8-bit tensors and their scales of a network's state.

    Raises:
        WeightsError: a number is not finite.
    """
    import torch

    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float().contiguous()
        if not torch.isfinite(value).all():
            raise WeightsError(f"weights {name!r}: expected finite numbers, found others.", "Train again.")
        if value.ndim < 2 or value.numel() < _SMALL:
            result[name] = value.half()
            continue
        rows = value.flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp(min=1e-12)
        result[name] = (rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8).view_as(value)
        result[name + _SCALE] = scale
    return result


def unpacked(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return float32 tensors of what `packed` made."""
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_SCALE):
            continue
        scale = state.get(name + _SCALE)
        value = tensor.float()
        result[name] = value if scale is None else value * scale.view(-1, *[1] * (value.ndim - 1))
    return result


def save_network(network: Any, folder: Path, *, compact: bool) -> None:
    """Write a network of diffusers' ModelMixin into `folder`."""
    import copy

    import torch
    from safetensors.torch import save_file

    if compact:
        folder.mkdir(parents=True, exist_ok=True)
        network.save_config(folder)
        save_file(packed(network.state_dict()), str(folder / COMPACT))
        return
    halved = copy.deepcopy(network).to(device="cpu", dtype=torch.bfloat16, memory_format=torch.contiguous_format)
    halved.save_pretrained(folder, safe_serialization=True)


def load_network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Read a network of class `kind` in either form, on the CPU."""
    import torch
    from safetensors.torch import load_file

    if not (folder / COMPACT).is_file():
        return kind.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=False)

    network = kind.from_config(kind.load_config(folder))
    network.load_state_dict(unpacked(load_file(str(folder / COMPACT))))
    return torch.nn.Module.to(network, dtype=dtype)  # diffusers' own `to` warns of a difference that is not there
