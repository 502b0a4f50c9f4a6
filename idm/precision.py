"""Where bfloat16 is worth it."""

from __future__ import annotations

import torch


def has_bf16(device: str) -> bool:
    """Whether bfloat16 is fast there: any CUDA device, or a CPU with the instructions (elsewhere it is emulated)."""
    if not device.startswith("cpu"):
        return True
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
