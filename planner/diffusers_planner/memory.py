"""Running out of memory, said so that one knows what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cascade.contracts.errors import ConfigError
from planner.diffusers_planner.options import DiffusersConfig

_ON_CPU = ("can't allocate memory", "not enough memory")


@contextmanager
def explain_memory(options: DiffusersConfig, what: str) -> Iterator[None]:
    """Turn an out-of-memory error of torch inside the context into a ConfigError that says what to lower."""
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        exhausted = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not exhausted and not any(sign in str(error) for sign in _ON_CPU):
            raise
        raise ConfigError(
            f"diffusers planner: out of memory while {what}.", what_to_lower(options, gpu=torch.cuda.is_available())
        ) from error


def what_to_lower(options: DiffusersConfig, *, gpu: bool) -> str:
    """Return the advice that is not followed yet, what costs least quality first; only a GPU can be offloaded."""
    advice = []
    if not options.vae_tiling:
        advice.append("set vae_tiling: true")
    offloads = gpu and options.device != "cpu"
    if offloads and options.offload == "none":
        advice.append("set offload: model")
    if offloads and options.offload != "sequential":
        advice.append("set offload: sequential (slow)")
    if options.dtype == "float32":
        advice.append("use dtype: bfloat16")
    advice += ["lower num_frames", "lower width_px and height_px", "take a smaller model"]
    return f"In this order: {', '.join(advice)}."
