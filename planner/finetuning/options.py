"""Options of `cascade train planner --backend diffusers`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig


class FinetuneConfig(PluginConfig):
    """Options of the trainer that fine-tunes an image-to-video pipeline."""

    model: str | None = Field(None, description="folder that save_pretrained wrote, or hub id")
    local_files_only: bool = Field(True, description="false: download what is not in the local cache")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    variant: str | None = Field(None, description="variant of the weight files, such as fp16")
    method: Literal["lora", "full"] = Field("lora", description="train a LoRA, or all weights of the transformer")
    rank: int = Field(32, ge=1, description="rank of the LoRA")
    alpha: float | None = Field(None, gt=0, description="scale of the LoRA times its rank; default: the rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside the LoRA")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), min_length=1, description="layers that get a LoRA, by the end of the name"
    )
    second_transformer: bool = Field(False, description="train the low-noise transformer of Wan 2.2 A14B")
    camera: str = Field("corner", description="camera to learn")
    width_px: int | None = Field(None, ge=16, description="width the model works at [px]; default: by family")
    height_px: int | None = Field(None, ge=16, description="height the model works at [px]; default: by family")
    num_frames: int | None = Field(None, ge=2, description="frames of a clip; default: by family")
    timing: Literal["progress", "rate"] = Field(
        "progress",
        description="progress: a clip shows the rest of its episode, evenly in what happens (plan with fps: 0); "
        "rate: it plays at the family's frame rate",
    )
    clips_per_episode: int = Field(1, ge=1, description="clips of an episode, from starts spread over it")
    start_frame: int = Field(0, ge=0, description="frame at which an episode starts; 1 skips an unsettled first image")
    only_successful: bool = Field(True, description="leave out episodes that did not succeed")
    prompt_profile: str = Field("robot", description="'plain', 'robot', or a text that contains {instruction}")
    drop_words: float = Field(0.1, ge=0, lt=1, description="share of clips shown without words, which guidance needs")
    steps: int = Field(1000, ge=1, description="optimiser steps in all")
    minutes: float | None = Field(None, gt=0, description="end after so many minutes, over all sessions")
    batch: int = Field(4, ge=1, description="clips per optimiser step, over all processes")
    micro_batch: int = Field(1, ge=1, description="clips at once in one process; the rest is accumulated")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    warmup_steps: int = Field(20, ge=0, description="steps over which the learning rate rises")
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate after the rise")
    weight_decay: float = Field(0.01, ge=0, description="decay of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are shortened to this")
    mixed_precision: Literal["auto", "no", "bf16"] = Field(
        "auto", description="arithmetic; auto: bf16 where the processor is quick at it"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: leave as they are")
    seed: int = Field(0, ge=0, description="seed of initial LoRA, order and noise")
    held_out: float = Field(0.05, ge=0, lt=1, description="share of seeds never trained on")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    evaluate_every: int = Field(100, ge=1, description="steps between measurements at fixed noise")
    evaluate_clips: int = Field(8, ge=1, description="clips of a measurement")
    sample_every: int = Field(250, ge=0, description="steps between sample videos; 0: none")
    sample_steps: int | None = Field(None, ge=1, description="denoising steps of a sample; default: by family")
    samples: int = Field(1, ge=1, le=8, description="sample videos each time")
