"""Loading a pipeline from a folder or the local cache, with the checks that spare a wait for gigabytes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cascade.contracts.errors import ConfigError, WeightsError, did_you_mean
from planner.compute import choose_device, fast_bfloat16
from planner.diffusers_planner.families import COSMOS2, COSMOS25, Family, find_family
from planner.diffusers_planner.memory import explain_memory
from planner.diffusers_planner.options import DiffusersConfig, LoraConfig
from planner.diffusers_planner.quantising import check_quantising, quantisation, store_in_float8

INSTALL = 'pip install "cascade-wam[diffusers]"'


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pipeline that is ready to be called, and what is known of it.

    Attributes:
        pipe: the diffusers pipeline.
        family: its record.
        fingerprint: short hash of configuration, names and sizes of the files and samples of their bytes.
        dtype: name of its arithmetic.
    """

    pipe: Any
    family: Family
    fingerprint: str
    dtype: str


def load_pipeline(options: DiffusersConfig) -> Loaded:
    """Load the pipeline that `options` name.

    Raises:
        ConfigError: transformers is not installed, the class is unknown or sees no image, or options do not fit.
        WeightsError: the model is missing, not in the local cache, or broken.
    """
    if options.model is None:
        raise ConfigError("planner 'diffusers': expected the option `model`, found none.", "Give a folder or a hub id.")
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError("planner 'diffusers': it needs transformers, which is not installed.", f"Run: {INSTALL}")
    local = _local_folder(options.model)
    if local is not None:
        _read_index(local)  # a wrong folder is found before the libraries have been imported
    check_quantising(options)
    folder = local or _from_hub(options.model, options)
    index = _read_index(folder)
    family = find_family(index, _transformer_config(folder, index), pipeline=options.pipeline, adapter=options.adapter)
    pipe = _from_pretrained(folder, family, options)
    _check_call(pipe, family, options.call)
    names = [f"lora{number}" for number in range(len(options.loras))]
    for name, lora in zip(names, options.loras, strict=True):
        _load_lora(pipe, lora, name, options.local_files_only)
    if names:
        pipe.set_adapters(names, [lora.scale for lora in options.loras])
    store_in_float8(pipe, options, _dtypes(family, options)["default"])
    _place(pipe, options)
    pipe.set_progress_bar_config(disable=True)
    return Loaded(pipe, family, fingerprint(folder), _dtype_name(options))


def _local_folder(model: str) -> Path | None:
    """Return the folder that `model` names, or None when it is a hub id."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise WeightsError(
            f"{model}: expected a folder that save_pretrained wrote or a hub id owner/name, found neither.",
            "Check the path.",
        )
    return None


def _from_hub(model: str, options: DiffusersConfig) -> Path:
    from diffusers import DiffusionPipeline

    try:
        folder = DiffusionPipeline.download(
            model, local_files_only=options.local_files_only, revision=options.revision, variant=options.variant
        )
    except (OSError, ValueError) as error:  # every error of the hub client is one of these
        fix = (
            f"Download it with `hf download {model}`, or set local_files_only: false."
            if options.local_files_only
            else "Check the name, the network and, for gated models, the token."
        )
        where = "the local cache" if options.local_files_only else "the hub"
        raise WeightsError(f"{model}: expected a folder or a model in {where}, found neither.", fix) from error
    return Path(folder)


def _read_index(folder: Path) -> Mapping[str, Any]:
    path = folder / "model_index.json"
    if not path.is_file():
        raise WeightsError(
            f"{folder}: expected model_index.json, found none.",
            "Give the folder of the whole pipeline; single-file checkpoints are converted with diffusers first.",
        )
    return _read_json(path)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path}: expected JSON, found a broken file ({error}).", "Download it again.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(found).__name__}.", "Download it again.")
    return found


def _transformer_config(folder: Path, index: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("transformer", "unet"):
        path = folder / name / "config.json"
        if name in index and path.is_file():
            return _read_json(path)
    return {}


def _from_pretrained(folder: Path, family: Family, options: DiffusersConfig) -> Any:
    pipeline_class = _pipeline_class(family.pipeline)
    components: dict[str, Any] = quantisation(options, _read_index(folder))
    if family in (COSMOS2, COSMOS25):
        components["safety_checker"] = _safety_checker(options.safety_checker)
        _check_torchvision(_transformer_config(folder, {"transformer": None}))
    try:
        with explain_memory(options, f"loading {family.name}"):
            pipe = pipeline_class.from_pretrained(
                str(folder),
                dtype=_dtypes(family, options),
                local_files_only=True,
                variant=options.variant,
                **components,
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{folder}: expected a {family.pipeline} that can be loaded, found a broken one ({cause}).",
            "Download it again, or check that its diffusers version fits.",
        ) from error
    _supply_ftfy(pipe)
    return pipe


def _pipeline_class(name: str) -> Any:
    import diffusers

    found = getattr(diffusers, name, None)
    if found is None:
        known = [entry for entry in dir(diffusers) if "Pipeline" in entry and "Video" in entry]
        raise ConfigError(f"pipeline: diffusers {diffusers.__version__} has no {name!r}.", did_you_mean(name, known))
    return found


def _dtype_name(options: DiffusersConfig) -> str:
    device = choose_device(options.device)
    if options.dtype != "auto":
        return options.dtype
    return "bfloat16" if fast_bfloat16(device) else "float32"


def _dtypes(family: Family, options: DiffusersConfig) -> dict[str, Any]:
    import torch

    dtypes = {"default": getattr(torch, _dtype_name(options))}
    return dtypes | {component: torch.float32 for component in family.full_precision}


def _supply_ftfy(pipe: Any) -> None:
    """Wan's text cleaning calls ftfy without asking for it; instructions are plain text, which NFC cleans as well."""
    module = sys.modules[type(pipe).__module__]
    if hasattr(module, "prompt_clean") and not hasattr(module, "ftfy"):
        module.ftfy = SimpleNamespace(fix_text=lambda text: unicodedata.normalize("NFC", text))  # type: ignore[attr-defined]


def _safety_checker(name: str | None) -> Any:
    """Cosmos may only run with a guardrail, so says its licence: NVIDIA's, or one that the user answers for."""
    target = name or "cosmos_guardrail:CosmosSafetyChecker"
    module_name, _, attribute = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"safety_checker: expected module:callable, found {target!r}, which cannot be imported ({error}).",
            "NVIDIA's licence asks for a guardrail: pip install cosmos_guardrail, or name your own.",
        ) from error
    return factory()


def _check_torchvision(transformer: Mapping[str, Any]) -> None:
    if transformer.get("concat_padding_mask", True) and importlib.util.find_spec("torchvision") is None:
        raise ConfigError(
            "planner 'diffusers': Cosmos needs torchvision, which is not installed.",
            "Install the torchvision that goes with the installed torch.",
        )


def _check_call(pipe: Any, family: Family, call: Mapping[str, Any]) -> None:
    """Raise ConfigError when the pipeline's call lacks an argument that the family or the user names."""
    import inspect

    known = set(inspect.signature(type(pipe).__call__).parameters)
    own = {"prompt", "num_frames", "num_inference_steps", "generator", "output_type"}
    own |= {"height", "width"} if family.takes_size else set()
    own |= {"negative_prompt"} if family.takes_negative else set()
    named: Iterable[str | None] = (
        family.image_argument if family.image == "argument" else family.image,
        "num_latent_conditional_frames" if family.image == "video" else None,
        family.guidance_argument,
        family.fps_argument,
        None if family.goal_argument == "conditions" else family.goal_argument,
    )
    own |= {name for name in named if name}
    for name in sorted(own | set(call)):
        if name not in known:
            where = "call" if name in call else "adapter"
            raise ConfigError(
                f"{where}: {type(pipe).__name__} takes no argument {name!r}.",
                did_you_mean(name, known - {"self"}),
            )
    for name in sorted(set(call) & own):
        raise ConfigError(f"call: {name!r} is set by the planner.", "Use the planner's own option for it.")


def _load_lora(pipe: Any, lora: LoraConfig, name: str, local_files_only: bool) -> None:
    if not hasattr(pipe, "load_lora_weights"):
        raise ConfigError(f"loras: {type(pipe).__name__} takes no LoRA.", "Leave `loras` out.")
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("loras: loading a LoRA needs peft, which is not installed.", "Run: pip install peft")
    more: dict[str, Any] = {"load_into_transformer_2": True} if lora.second_transformer else {}
    try:
        with warnings.catch_warnings():
            # peft warns of every LoRA after the first; several are what the list is for.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            pipe.load_lora_weights(
                lora.path, weight_name=lora.weight_name, adapter_name=name, local_files_only=local_files_only, **more
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{lora.path}: expected a LoRA of {type(pipe).__name__}, found none that fits ({error}).",
            "Check the path, `weight_name` and the model it was trained on.",
        ) from error


def _place(pipe: Any, options: DiffusersConfig) -> None:
    device = choose_device(options.device)
    if options.vae_tiling:
        pipe.vae.enable_tiling()
    if options.offload == "none":
        with explain_memory(options, "moving the model to the device"):
            pipe.to(device)
        return
    if device.type != "cuda":
        raise ConfigError(f"offload {options.offload!r}: expected a GPU, found {device.type}.", "Use offload: none.")
    if importlib.util.find_spec("accelerate") is None:
        raise ConfigError("offload: it needs accelerate, which is not installed.", f"Run: {INSTALL}")
    if options.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits that change with configuration, file sizes, and the first and last 64 KiB of every file."""
    digest = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in {".json", ".safetensors"})
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(65536))
            if size > 65536:
                file.seek(max(65536, size - 65536))
                digest.update(file.read())
    return digest.hexdigest()[:16]
