"""Options of the planner that runs a diffusers pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cascade.contracts import PluginConfig


class LoraConfig(PluginConfig):
    """One LoRA to load on top of the model; many few-step models are distributed as one."""

    path: str = Field(description="file, folder or hub id of the LoRA")
    weight_name: str | None = Field(None, description="file inside that folder or repository")
    scale: float = Field(1.0, description="strength of the LoRA")
    second_transformer: bool = Field(False, description="for the low-noise transformer of Wan 2.2 A14B")
    steps: int | None = Field(None, ge=1, description="denoising steps that a few-step LoRA was made for")
    guidance: float | None = Field(None, ge=0, description="guidance that it was made for")


class AdapterConfig(PluginConfig):
    """How to call an image-to-video pipeline that has no record of its own: argument names, legal sizes, defaults."""

    image: str = Field("image", description="argument that takes the first frame")
    goal: str | None = Field(None, description="argument that takes a last frame, if there is one")
    guidance: str | None = Field("guidance_scale", description="argument that takes the guidance, if there is one")
    negative_prompt: bool = Field(True, description="whether the call takes `negative_prompt`")
    fps_argument: str | None = Field(None, description="argument that takes frames per second, if there is one")
    sized: bool = Field(True, description="whether the call takes `height` and `width`")
    frame_step: int = Field(4, ge=1, description="legal frame counts are frame_step * k + 1")
    multiple_px: int = Field(16, ge=1, description="width and height are multiples of this [px]")
    width_px: int = Field(832, ge=16, description="native width [px]")
    height_px: int = Field(480, ge=16, description="native height [px]")
    fixed_size: bool = Field(False, description="whether the model works at its native size only")
    num_frames: int = Field(81, ge=2, description="native frame count")
    steps: int = Field(50, ge=1, description="native denoising steps")
    guidance_scale: float = Field(5.0, ge=0, description="native guidance")
    fps: float | None = Field(None, gt=0, description="frames per second of its videos; default: time is ordinal")


class DiffusersConfig(PluginConfig):
    """Options of the planner that runs an image-to-video pipeline of diffusers."""

    model: str | None = Field(None, description="folder that save_pretrained wrote, or hub id")
    local_files_only: bool = Field(True, description="false: download what is not in the local cache")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    variant: str | None = Field(None, description="variant of the weight files, such as fp16")
    pipeline: str | None = Field(None, description="pipeline class; default: the one that the model names")
    adapter: AdapterConfig | None = Field(None, description="how to call a pipeline class that is not known here")
    camera: str = Field("corner", description="camera to plan in")
    size_px: int = Field(128, ge=16, description="width and height of plan frames [px]")
    frames: int = Field(17, ge=2, description="frames of the plan, the current image included")
    width_px: int | None = Field(None, ge=16, description="width the model works at [px]; default: by family")
    height_px: int | None = Field(None, ge=16, description="height the model works at [px]; default: by family")
    num_frames: int | None = Field(None, ge=2, description="frames the model makes; default: by family")
    fps: float | None = Field(None, ge=0, description="imagined frames per second; default: by family; 0: ordinal time")
    steps: int | None = Field(None, ge=1, description="denoising steps; default: by family")
    guidance: float | None = Field(None, ge=0, description="classifier-free guidance; default: by family; 1: none")
    negative_prompt: str | None = Field(None, description="what not to show; default: by family")
    output: Literal["video", "latent"] = Field(
        "video", description="latent: hand on latents; frames are decoded when somebody looks"
    )
    stop_at: float | None = Field(
        None, ge=0, lt=1, description="noise level at which to stop, 1 noise .. 0 finished; hands on latents"
    )
    tap: str | None = Field(
        None,
        description="hand on what this module makes, such as transformer.blocks.10, in the pass at `stop_at` (default: "
        "the first)",
    )
    prompt_profile: str = Field("robot", description="'plain', 'robot', or a text that contains {instruction}")
    seed: int | None = Field(None, ge=0, description="seed of the noise; default: the run's")
    loras: tuple[LoraConfig, ...] = Field((), description="LoRAs to load, in order")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field("auto", description="arithmetic")
    quantise: Literal["none", "float8", "int8", "bnb-int8", "bnb-nf4"] = Field(
        "none",
        description="weights of the transformers in 8 or 4 bits; float8 needs nothing, int8 torchao, bnb bitsandbytes",
    )
    prompt_cache: Path | None = Field(None, description="folder that keeps embeddings of sentences between runs")
    offload: Literal["none", "model", "sequential"] = Field("none", description="what waits in main memory, not on GPU")
    vae_tiling: bool = Field(False, description="decode in tiles: less memory, more time")
    safety_checker: str | None = Field(None, description="module:callable of the checker that Cosmos has to run with")
    call: dict[str, Any] = Field(default_factory=dict, description="further arguments of the pipeline's call")
