"""What each family is trained to do: how a clip becomes tensors, how it is noised, and what the network should say.

Wan and LTX are flows: between clean latents x0 and noise e the network sees x = (1 - s) x0 + s e at noise level s and
says e - x0 (Lipman et al., "Flow matching for generative modeling", 2022; Liu et al., "Rectified flow", 2022).
CogVideoX is a diffusion with velocity prediction, weighted as by its authors, 1 / (1 - alpha).
Inputs are put together as the pipelines of diffusers 0.42 put them together when they make a video.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from cascade.contracts.errors import ConfigError
from planner.diffusers_planner.families import Family
from planner.diffusers_planner.prompts import PromptCache

Tensors = Mapping[str, Tensor]


class Objective(Protocol):
    """A family's way to be trained. Batches have their clips along dimension 0."""

    def encode(self, frames: Tensor, picture: Any) -> dict[str, Tensor]:
        """Return what is kept of a clip: (1, 3, T, H, W) in -1..1 and its first frame as a PIL image."""
        ...

    def words(self, text: str) -> dict[str, Tensor]:
        """Return the embedding of a text."""
        ...

    def level(self, uniform: Tensor) -> Tensor:
        """Return noise levels (B,) for numbers (B,) that are even in 0..1."""
        ...

    def loss(self, network: Any, batch: Tensors, noise: Tensor, level: Tensor) -> Tensor:
        """Return the loss (B,) of a network at noise levels (B,)."""
        ...


TRAINABLE = "Wan 2.1, Wan 2.2, LTX-Video and CogVideoX"


def choose_objective(pipe: Any, family: Family, *, second: bool = False) -> Objective:
    """Return the objective of a family.

    Args:
        pipe: its pipeline.
        family: its record.
        second: train the low-noise transformer of Wan 2.2 A14B.

    Raises:
        ConfigError: the family cannot be trained here, or has no second transformer.
    """
    if second and family.name != "wan22-i2v-a14b":
        raise ConfigError(f"second_transformer: {family.name} has one transformer.", "Leave it out.")
    if family.name.startswith("wan"):
        return WanObjective(pipe, family, second=second)
    if family.name in {"ltx-i2v", "ltx-condition"}:
        return LtxObjective(pipe, family)
    if family.name.startswith("cogvideox"):
        return CogVideoXObjective(pipe)
    raise ConfigError(f"fine-tuning: {family.name} cannot be trained here.", f"Take one of {TRAINABLE}.")


def logit_normal(uniform: Tensor) -> Tensor:
    """Return levels in 0..1 that are normal on the logit scale, most in the middle (Esser et al., 2024)."""
    return torch.sigmoid(math.sqrt(2) * torch.erfinv(2 * uniform.clamp(1e-4, 1 - 1e-4) - 1))


def shifted(level: Tensor, shift: float) -> Tensor:
    """Return levels moved towards noise, as the scheduler moves them when it makes a video."""
    return shift * level / (1 + (shift - 1) * level)


class WanObjective:
    """Wan 2.1 and 2.2: the first frame comes as further channels, or in 2.2 TI2V as clean first latents."""

    def __init__(self, pipe: Any, family: Family, *, second: bool) -> None:
        self._pipe, self._goal = pipe, family.needs_goal
        config = pipe.scheduler.config
        self._shift = float(config.get("flow_shift") or config.get("shift") or 1.0)
        self._expands = bool(pipe.config.expand_timesteps)
        boundary = pipe.config.boundary_ratio
        self._range = (0.0, 1.0) if boundary is None else ((0.0, boundary) if second else (boundary, 1.0))

    def encode(self, frames: Tensor, picture: Any) -> dict[str, Tensor]:
        """Return latents, the condition and, in 2.1, what the image encoder saw."""
        pipe, vae = self._pipe, self._pipe.vae
        x = vae.encode(frames.to(vae.dtype)).latent_dist.mode().float()
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean, device=x.device).view(shape)
        deviation = torch.tensor(vae.config.latents_std, device=x.device).view(shape)
        count, height, width = frames.shape[2:]
        last = frames[:, :, -1] if self._goal else None
        made = pipe.prepare_latents(
            frames[:, :, 0], 1, x.shape[1], height, width, count, torch.float32, x.device, None, x, last
        )
        kept = {"latents": (x - mean) / deviation, "condition": made[1]}
        if pipe.transformer is not None and pipe.transformer.config.image_dim is not None:
            pictures = [picture, _picture(frames[0, :, -1])] if self._goal else picture
            kept["image"] = pipe.encode_image(
                pictures, x.device
            ).float()  # two rows for two images, as the network wants them
        return kept

    def words(self, text: str) -> dict[str, Tensor]:
        """Return the embedding of a text."""
        return {"words": _embedding(self._pipe, text)["prompt_embeds"].float()}

    def level(self, uniform: Tensor) -> Tensor:
        """Return shifted levels; each transformer of A14B learns its own range."""
        low, high = self._range
        if (low, high) != (0.0, 1.0):
            return low + (high - low) * uniform
        return shifted(logit_normal(uniform), self._shift)

    def loss(self, network: Any, batch: Tensors, noise: Tensor, level: Tensor) -> Tensor:
        """Return the flow-matching loss; clean first latents of TI2V do not count."""
        x0, s = batch["latents"], level.view(-1, 1, 1, 1, 1)
        x = (1 - s) * x0 + s * noise
        if self._expands:
            free = torch.ones_like(x[:, :1])
            free[:, :, 0] = 0
            x = (1 - free) * batch["condition"] + free * x
            time = (free[:, 0, :, ::2, ::2] * (level * 1000).view(-1, 1, 1, 1)).flatten(1)
        else:
            free = torch.ones_like(x[:, :1])
            x, time = torch.cat([x, batch["condition"]], dim=1), level * 1000
        said = network(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=batch["words"],
            encoder_hidden_states_image=batch.get("image"),
            return_dict=False,
        )[0]
        return _mean((said.float() - (noise - x0)) ** 2 * free, free)


class LtxObjective:
    """LTX-Video: latents as a sequence of tokens, those of the first frame clean and told so by their time."""

    def __init__(self, pipe: Any, family: Family) -> None:
        self._pipe, self._rate = pipe, family.fps or 25.0

    def encode(self, frames: Tensor, picture: Any) -> dict[str, Tensor]:
        """Return the latents (1, C, T, H, W)."""
        vae = self._pipe.vae
        x = vae.encode(frames.to(vae.dtype)).latent_dist.mode().float()
        return {"latents": self._pipe._normalize_latents(x, vae.latents_mean, vae.latents_std)}

    def words(self, text: str) -> dict[str, Tensor]:
        """Return the embedding of a text, and which tokens are text."""
        found = _embedding(self._pipe, text)
        return {"words": found["prompt_embeds"].float(), "mask": found["prompt_attention_mask"].float()}

    def level(self, uniform: Tensor) -> Tensor:
        """Return shifted levels."""
        config = self._pipe.scheduler.config
        dynamic = config.get("use_dynamic_shifting")
        return shifted(logit_normal(uniform), math.exp(1.0) if dynamic else float(config.get("shift") or 1.0))

    def loss(self, network: Any, batch: Tensors, noise: Tensor, level: Tensor) -> Tensor:
        """Return the flow-matching loss of all latent frames but the first."""
        pipe, x0, s = self._pipe, batch["latents"], level.view(-1, 1, 1, 1, 1)
        sizes = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        free = torch.ones_like(x0[:, :1])
        free[:, :, 0] = 0
        x = torch.where(free > 0, (1 - s) * x0 + s * noise, x0)
        count, height, width = x0.shape[2:]
        space = pipe.vae_spatial_compression_ratio
        tokens = pipe._pack_latents(free, *sizes)[..., 0]
        said = network(
            hidden_states=pipe._pack_latents(x, *sizes),
            encoder_hidden_states=batch["words"],
            timestep=(level * 1000).view(-1, 1) * tokens,
            encoder_attention_mask=batch["mask"],
            num_frames=count,
            height=height,
            width=width,
            rope_interpolation_scale=(pipe.vae_temporal_compression_ratio / self._rate, space, space),
            return_dict=False,
        )[0]
        wanted = pipe._pack_latents(noise - x0, *sizes)
        return _mean((said.float() - wanted) ** 2 * tokens[..., None], tokens[..., None])


class CogVideoXObjective:
    """CogVideoX 1.0 and 1.5: discrete times of its scheduler, velocity prediction."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def encode(self, frames: Tensor, picture: Any) -> dict[str, Tensor]:
        """Return the latents and the condition, both (1, T, C, H, W); 1.5 repeats a frame to make their number even."""
        vae = self._pipe.vae
        scale = vae.config.scaling_factor
        x = vae.encode(frames.to(vae.dtype)).latent_dist.mode().float().permute(0, 2, 1, 3, 4) * scale
        first = vae.encode(frames[:, :, :1].to(vae.dtype)).latent_dist.mode().float().permute(0, 2, 1, 3, 4)
        first = first / scale if vae.config.invert_scale_latents else first * scale
        patch = self._pipe.transformer.config.patch_size_t
        if patch is not None and x.shape[1] % patch:
            x = torch.cat([x[:, : patch - x.shape[1] % patch], x], dim=1)
        return {"latents": x, "condition": torch.cat([first, torch.zeros_like(x[:, 1:])], dim=1)}

    def words(self, text: str) -> dict[str, Tensor]:
        """Return the embedding of a text."""
        return {"words": _embedding(self._pipe, text)["prompt_embeds"].float()}

    def level(self, uniform: Tensor) -> Tensor:
        """Return levels even in time."""
        return uniform

    def loss(self, network: Any, batch: Tensors, noise: Tensor, level: Tensor) -> Tensor:
        """Return the weighted error of the clean latents that follow from the velocity."""
        pipe, x0 = self._pipe, batch["latents"]
        scheduler, config = pipe.scheduler, pipe.transformer.config
        time = (level * scheduler.config.num_train_timesteps).long().clamp(max=scheduler.config.num_train_timesteps - 1)
        x = scheduler.add_noise(x0, noise, time)
        scale = pipe.vae_scale_factor_spatial
        rotary = None
        if config.use_rotary_positional_embeddings:
            rotary = pipe._prepare_rotary_positional_embeddings(
                x0.shape[3] * scale, x0.shape[4] * scale, x0.shape[1], x0.device
            )
        said = network(
            hidden_states=torch.cat([x, batch["condition"]], dim=2),
            encoder_hidden_states=batch["words"],
            timestep=time,
            ofs=None if config.ofs_embed_dim is None else x.new_full((1,), 2.0),
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        clean = scheduler.get_velocity(said.float(), x, time)
        weight = 1 / (1 - scheduler.alphas_cumprod.to(x0.device)[time]).clamp(min=1e-4)
        error: Tensor = ((clean - x0) ** 2).flatten(1).mean(1)
        weighted: Tensor = weight.to(error.dtype) * error
        return weighted


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean (B,) of errors where the weight, which has one channel, is 1."""
    channels = error.numel() / weight.numel()
    return error.flatten(1).sum(1) / (weight.flatten(1).sum(1) * channels)


def _embedding(pipe: Any, text: str) -> dict[str, Any]:
    """Return the text as the planner will give it to the pipeline, of the same length."""
    return PromptCache(pipe).arguments(text, "", guided=False)


def _picture(frame: Tensor) -> Any:
    import PIL.Image

    pixels = ((frame.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    return PIL.Image.fromarray(pixels.cpu().numpy())
