"""Tensors in a quarter of float32's bytes: 8 bits per weight and a scale per channel, in a safetensors file.

Large tensors become int8 with one float32 scale for each output channel (dimension 0); small ones (biases, norms) stay
in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cascade.contracts.errors import WeightsError

if TYPE_CHECKING:
    import torch

COMPACT_FILE = "diffusion_pytorch_model.int8.safetensors"
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
