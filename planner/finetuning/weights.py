"""What is trained of a pipeline, and how it is saved so that plain diffusers loads it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import torch

from cascade.contracts.errors import ConfigError
from planner.finetuning.options import FinetuneConfig

INSTALL = 'pip install "cascade-wam[diffusers,train]"'
ADAPTER = "default"


def network_name(options: FinetuneConfig) -> str:
    """Return which component of the pipeline is trained."""
    return "transformer_2" if options.second_transformer else "transformer"


def check_installed() -> None:
    """Raise ConfigError when a library that training needs is missing."""
    for name in ("peft", "accelerate", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"fine-tuning: it needs {name}, which is not installed.", f"Run: {INSTALL}")


def prepare_network(pipe: Any, options: FinetuneConfig) -> Any:
    """Freeze everything but what is trained, add the LoRA, and return the network.

    Raises:
        ConfigError: no layer has a name that ends as one of `targets`.
    """
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()
    network = getattr(pipe, network_name(options))
    if options.method == "full":
        network.requires_grad_(True)
    else:
        _add_lora(network, options)
    if options.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    network.train()
    return network


def place_encoders(pipe: Any, options: FinetuneConfig, device: torch.device) -> None:
    """Move everything but the trained network to a device: encoders are needed before training and for samples only."""
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and name != network_name(options):
            component.to(device)


def _add_lora(network: Any, options: FinetuneConfig) -> None:
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha or options.rank,  # type: ignore[arg-type]  # peft divides it; a float is fine
        lora_dropout=options.lora_dropout,
        target_modules=_targets(network, options.targets),
        init_lora_weights="gaussian",
    )
    try:
        network.add_adapter(config, adapter_name=ADAPTER)
    except ValueError as error:
        raise ConfigError(
            f"targets: expected ends of layer names of {type(network).__name__}, found {list(options.targets)}.",
            "Attention layers end in to_q, to_k, to_v and to_out.0.",
        ) from error
    cast_training_params(network, dtype=torch.float32)


def _targets(network: Any, wanted: tuple[str, ...]) -> list[str]:
    """Return the layers that get a LoRA; where a layer reads words, its twin that reads the image goes with it.

    diffusers adds empty LoRAs for the twins when it loads one without, and peft then warns of a mismatch.
    """
    twins = {"to_k": "add_k_proj", "to_v": "add_v_proj"}
    held = {name.rsplit(".", 1)[-1] for name, _ in network.named_modules()}
    return [*wanted, *(twin for name, twin in twins.items() if name in wanted and twin in held and twin not in wanted)]


def trained(network: Any) -> dict[str, Any]:
    """Return the trained parameters by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def restore(network: Any, state: dict[str, Any]) -> None:
    """Put saved parameters back; raises ConfigError when they are of another LoRA."""
    own = trained(network)
    if {k: tuple(v.shape) for k, v in own.items()} != {k: tuple(v.shape) for k, v in state.items()}:
        raise ConfigError("fine-tuning: the checkpoint is of another LoRA or model.", "Choose another output folder.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])


def export(pipe: Any, network: Any, options: FinetuneConfig, folder: Path, card: str) -> None:
    """Write the LoRA (for `load_lora_weights`) or the whole pipeline (for `from_pretrained`), replacing `folder`."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if options.method == "full":
        pipe.save_pretrained(partial, safe_serialization=True)
    else:
        from peft import get_peft_model_state_dict

        # Both transformers of A14B are saved under one name; `load_into_transformer_2` says where one belongs.
        layers = get_peft_model_state_dict(network, adapter_name=ADAPTER)
        type(pipe).save_lora_weights(partial, transformer_lora_layers=layers, **_scale_note(pipe, network))
    (partial / "README.md").write_text(card, "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _scale_note(pipe: Any, network: Any) -> dict[str, Any]:
    """Return the LoRA's settings where the pipeline's writer keeps them: without, a loader takes alpha for the rank."""
    import inspect

    argument = "transformer_lora_adapter_metadata"
    known = inspect.signature(type(pipe).save_lora_weights).parameters
    return {argument: network.peft_config[ADAPTER].to_dict()} if argument in known else {}
