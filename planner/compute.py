"""Which device and arithmetic to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.contracts.errors import ConfigError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Return the device named 'cpu', 'cuda' or 'auto'; raises ConfigError when CUDA is asked for and absent."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': expected a CUDA device, found none.", "Use device: auto or cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is quicker than float32 there; processors without AVX-512 BF16 only emulate it."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the arithmetic named 'bfloat16', 'float32' or 'auto'."""
    import torch

    if name == "auto":
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32
