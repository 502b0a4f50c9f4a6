"""Transformers with weights of 8 or 4 bits, through what diffusers offers."""

from __future__ import annotations

import importlib.util
from typing import Any

from cascade.contracts.errors import ConfigError
from planner.compute import choose_device
from planner.diffusers_planner.options import DiffusersConfig

_PACKAGE = {"int8": "torchao", "bnb-int8": "bitsandbytes", "bnb-nf4": "bitsandbytes"}


def check_quantising(options: DiffusersConfig) -> None:
    """Raise ConfigError when the package or the GPU that a quantisation needs is missing."""
    package = _PACKAGE.get(options.quantise)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"quantise {options.quantise!r}: it needs {package}, which is not installed.",
            f"Run: pip install {package}; float8 needs no package.",
        )
    if package == "bitsandbytes" and choose_device(options.device).type != "cuda":
        raise ConfigError(
            f"quantise {options.quantise!r}: expected a GPU, found cpu.", "Use quantise: float8, which runs everywhere."
        )


def quantisation(options: DiffusersConfig, index: Any) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that quantise the transformers while they are loaded."""
    if options.quantise in {"none", "float8"}:
        return {}
    import torch
    from diffusers.quantizers import PipelineQuantizationConfig

    def one() -> Any:
        if options.quantise == "int8":
            from diffusers import TorchAoConfig
            from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-not-found, import-untyped, unused-ignore]

            return TorchAoConfig(Int8WeightOnlyConfig())
        from diffusers import BitsAndBytesConfig

        if options.quantise == "bnb-int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)

    names = [name for name in ("transformer", "transformer_2") if (index.get(name) or [None])[0] is not None]
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping={name: one() for name in names})}


def store_in_float8(pipe: Any, options: DiffusersConfig, dtype: Any) -> None:
    """Keep the transformers' weights in float8 and compute in `dtype`, layer by layer; on any device."""
    if options.quantise != "float8":
        return
    import torch

    for name in ("transformer", "transformer_2"):
        network = getattr(pipe, name, None)
        if network is not None:
            network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
