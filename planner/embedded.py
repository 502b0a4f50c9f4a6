"""The embedded planner: a sentence and the current image to 16 future frames, on a CPU, in a tenth of a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.contracts import CameraImage, ConfigError, EeReadout, Needs, Observation, PlanLatents, VideoPlan
from planner.compute import choose_device, choose_dtype
from planner.frames import first_frame
from planner.latents import Handover, find_module, listen
from planner.networks.autoencoder import LATENT_SPACE
from planner.networks.unet import PlanOutput
from planner.phrases import normalised
from planner.sampling import integrate, noise, sigmas
from planner.strides import WHOLE, Stride, fineness
from planner.text import PhraseTable, TextEncoder, minilm
from planner.weights import DEFAULT_WEIGHTS, SUMS, PlannerWeights, Settings, load_weights

FAR_TEXT = 0.5  # cosine distance from all known wordings above which a plan is a guess


class EmbeddedPlanner:
    """Small latent video model; see the model card beside its weights for data, scores and limits.

    One step is a regressor and does not depend on the seed; more steps sample.
    """

    def __init__(
        self,
        weights: PlannerWeights,
        *,
        device: torch.device,
        dtype: torch.dtype,
        text: TextEncoder | None = None,
        camera: str | None = None,
        steps: int | None = None,
        readout: bool = True,
        handover: Handover | None = None,
        stride: Stride = WHOLE,
    ) -> None:
        if stride not in weights.settings.strides:
            raise ConfigError(
                f"planner 'embedded': these weights know only stride {', '.join(map(repr, weights.settings.strides))}, "
                f"not {stride!r}.",
                "Set planner.options.stride to that, or train with `strides`.",
            )
        self._stride: Stride = stride
        self._weights, self._device, self._dtype = weights, device, dtype
        self._handover = handover or Handover()
        if self._handover.tap:
            find_module(weights.unet, self._handover.tap)
        self._text: TextEncoder = text or weights.table
        self._camera = camera or weights.settings.camera
        self._number = _camera_number(weights.settings, self._camera)
        self._steps = steps or weights.settings.steps
        knows = weights.readout is not None or weights.settings.path_std_m > 0
        self._readout = readout and knows and not self._handover.tap  # a pass that ends at a tap makes nothing to read
        self._embeddings: dict[str, NDArray[np.float32]] = {}
        scales = weights.settings.scales
        self._latent_mean, self._latent_std = self._row(scales.latent_mean), self._row(scales.latent_std)
        self._residual_mean, self._residual_std = self._row(scales.residual_mean), self._row(scales.residual_std)

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        *,
        camera: str | None = None,
        steps: int | None = None,
        readout: bool = True,
        threads: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        handover: Handover | None = None,
        stride: Stride = WHOLE,
    ) -> EmbeddedPlanner:
        """Load weights from `folder` (the shipped ones by default).

        Raises:
            WeightsError: they are missing, corrupt or of another version.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        place = choose_device(device)
        arithmetic = choose_dtype(dtype, place)
        weights = load_weights(_weights_folder(folder), dtype=arithmetic, device=place)
        return cls(
            weights,
            device=place,
            dtype=arithmetic,
            text=minilm(),
            camera=camera,
            steps=steps,
            readout=readout,
            handover=handover,
            stride=stride,
        )

    @property
    def needs(self) -> Needs:
        """The one camera its weights know."""
        return Needs(cameras=(self._camera,))

    @torch.inference_mode()
    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Imagine `samples` futures of 16 frames; the pixels are decoded when first asked for.

        Raises:
            ConfigError: the instruction is empty, or unknown while the sentence encoder is not installed; or a goal
                image was given, which these weights cannot use.
        """
        if goal is not None:
            raise ConfigError("planner 'embedded': it cannot aim at a goal image.", "Leave the goal out.")
        if samples < 1:
            raise ConfigError(f"samples: expected 1 or more, found {samples}.")
        settings = self._weights.settings
        ms: dict[str, float] = {}
        began = time.perf_counter()
        words = self._embedding(instruction)
        ms["text"] = _since(began)
        began = time.perf_counter()
        pixels, transform = first_frame(observation, self._camera, settings.size_px, settings.view)
        image = self._image(pixels)
        first = (self._weights.autoencoder.encode(image).float() - self._latent_mean) / self._latent_std
        ms["encode"] = _since(began)
        began = time.perf_counter()
        told = self._told(observation, samples)
        drawn = self._denoise(image, first, words, told, seed, samples)
        ms["denoise"] = _since(began)
        began = time.perf_counter()
        readouts: list[EeReadout | None] = [None] * samples
        if self._readout:
            residual, path = drawn.clean()
            readouts = self._read(self._latents(first, residual), told, path, observation)
        ms["readout"] = _since(began)
        space = self._handover.space(LATENT_SPACE, self._weights.digest)
        plans = []
        for k in range(samples):
            provenance: dict[str, Any] = {
                "planner": "embedded",
                "weights": self._weights.digest[:16],
                "steps": self._steps,
                "sample": k,
                "stride": self._stride,
                "dtype": str(self._dtype).removeprefix("torch."),
                "text_source": self._text.source,
                **self._distance(words),
                "ms": dict(ms),
            }
            plans.append(
                VideoPlan(
                    instruction=instruction,
                    camera=self._camera,
                    transform=transform,
                    decode=_Decoder(self, drawn, first, k, pixels, provenance["ms"]),
                    length=settings.frames + 1,
                    latents=PlanLatents(values=drawn.handed[k].float().cpu().numpy(), space=space),
                    readout=readouts[k],
                    seed=seed,
                    provenance=provenance,
                )
            )
            plans[-1].provenance["ms"] = provenance["ms"]
        return plans

    def _told(self, observation: Observation, samples: int) -> tuple[torch.Tensor, torch.Tensor] | tuple[()]:
        """Return the camera's number and the measured hand, normalised, for weights that want to know them."""
        if self._number is None:
            return ()
        scales, arm = self._weights.settings.scales, observation.arm
        position = (arm.position_m - np.array(scales.position_mean)) / np.array(scales.position_std)
        hand = np.append(position, (arm.gripper_opening - scales.opening_mean) / scales.opening_std)
        number = torch.full((samples,), self._number, device=self._device)
        place = torch.from_numpy(hand.astype(np.float32)).to(self._device)
        return number, place[None].expand(samples, -1)

    def _denoise(
        self,
        image: torch.Tensor,
        first: torch.Tensor,
        words: NDArray[np.float32],
        told: tuple[torch.Tensor, ...],
        seed: int,
        samples: int,
    ) -> _Drawn:
        """Go as far as the handover asks."""
        frames = self._weights.settings.frames
        start = torch.from_numpy(noise((frames, *first.shape[1:]), samples, seed)).to(self._device)
        text = torch.from_numpy(words).to(self._device, self._dtype)[None].expand(samples, -1)
        image, seen = image.expand(samples, -1, -1, -1), first.to(self._dtype).expand(samples, -1, -1, -1)

        camera, hand = (told[0], told[1].to(self._dtype)) if told else (None, None)
        stride = torch.full((samples,), fineness(self._stride), device=self._device)

        def ask(x: torch.Tensor, t: float) -> PlanOutput:
            moment = torch.full((samples,), t, device=self._device)
            out: PlanOutput = self._weights.unet(x.to(self._dtype), moment, seen, image, text, camera, hand, stride)
            return out

        def predict(x: torch.Tensor, t: float) -> torch.Tensor:
            told_last.append(ask(x, t))
            return told_last[-1].residual

        told_last: list[PlanOutput] = []
        level, tap = self._handover.level, self._handover.tap
        x = integrate(predict, start, sigmas(self._steps), level)
        if tap:
            features = listen(self._weights.unet, tap, lambda: ask(x, level))
            return _Drawn(_maps(features, tap)[:, None], lambda: _clean(ask(x, level)))
        last = told_last[-1]
        # A finished plan is where the last step went; an unfinished one is worth what its last step thought of it.
        clean = (x if level == 0 else last.residual, last.path)
        return _Drawn(self.raw_latents(first, x), lambda: clean)

    def _latents(self, first: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return normalised latents (samples, T, C, h, w) of normalised residuals; the first is the observation's."""
        future = first[:, None] + (residual * self._residual_std + self._residual_mean) / self._latent_std
        return torch.cat([first[:, None].expand(len(residual), -1, -1, -1, -1), future], dim=1)

    def raw_latents(self, first: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return the auto-encoder's own latents (samples, T, C, h, w) of a normalised first latent and residuals."""
        return self._latents(first, residual) * self._latent_std + self._latent_mean

    def _read(
        self, latents: torch.Tensor, told: tuple[torch.Tensor, ...], path: torch.Tensor, observation: Observation
    ) -> list[EeReadout | None]:
        """Read the latents, or where the weights have no network for that take the path told beside them."""
        net, settings = self._weights.readout, self._weights.settings
        if net is None:
            return [told_path(one.float().cpu().numpy(), observation, settings) for one in path]
        scales, reading = settings.scales, net(latents.float(), *told)
        position_std = (
            (reading.position_log_var / 2).exp() * settings.position_temperature * float(np.mean(scales.position_std))
        )
        opening_std = (reading.opening_log_var / 2).exp() * settings.opening_temperature * scales.opening_std
        position = reading.position.cpu().numpy() * np.array(scales.position_std) + np.array(scales.position_mean)
        opening = (reading.opening * scales.opening_std + scales.opening_mean).clamp(0, 1)
        return [
            EeReadout(
                position_m=position[k],
                opening=opening[k].cpu().numpy(),
                position_std_m=position_std[k].cpu().numpy(),
                opening_std=opening_std[k].cpu().numpy(),
                source="planner-latents",
            )
            for k in range(len(latents))
        ]

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return frames (T, H, W, 3) of raw latents (T, C, h, w); frame 0 is `pixels` itself."""
        network = self._weights.autoencoder
        first = self._image(pixels)
        features = network.reference_features(first)
        drawn = network.decode(latents[1:].to(self._dtype), first, features).float()
        future = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return np.concatenate([pixels[None], future])

    def _image(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        image = torch.from_numpy(np.array(pixels)).to(self._device).permute(2, 0, 1)[None]
        scaled = (image.float() / 127.5 - 1).to(self._dtype)
        return scaled.contiguous(memory_format=torch.channels_last)

    def _embedding(self, instruction: str) -> NDArray[np.float32]:
        key = normalised(instruction)
        if not key:
            raise ConfigError("instruction: expected a sentence, found none.", "Say what the robot should do.")
        if key not in self._embeddings:
            self._embeddings[key] = self._text.encode([instruction])[0]
        return self._embeddings[key]

    def _distance(self, words: NDArray[np.float32]) -> dict[str, Any]:
        table: PhraseTable = self._weights.table
        distance = table.distance(words)
        found: dict[str, Any] = {"text_distance": round(distance, 3)}
        if distance > FAR_TEXT:
            found["warning"] = "the sentence is far from every wording these weights were trained on"
        return found

    def _row(self, values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values, device=self._device, dtype=torch.float32)[:, None, None]


def told_path(path: NDArray[np.float32], observation: Observation, settings: Settings) -> EeReadout:
    """Return the U-Net's own path (T, 4), normalised, as a readout; it begins where the hand is measured."""
    scales, arm = settings.scales, observation.arm
    position = path[:, :3] * np.array(scales.position_std) + np.array(scales.position_mean)
    opening = np.clip(path[:, 3] * scales.opening_std + scales.opening_mean, 0, 1)
    count = len(path)
    return EeReadout(
        position_m=np.concatenate([arm.position_m[None], position]),
        opening=np.concatenate([[arm.gripper_opening], opening]),
        position_std_m=np.r_[0.001, np.full(count, settings.path_std_m)],
        opening_std=np.r_[0.01, np.full(count, settings.path_opening_std)],
        source="planner-path",
    )


def _camera_number(settings: Settings, camera: str) -> int | None:
    """Return the number of a camera, or None for weights that are not told; raises ConfigError when they lack it."""
    if not settings.cameras:
        return None
    if camera not in settings.cameras:
        raise ConfigError(
            f"planner 'embedded': these weights know the cameras {', '.join(settings.cameras)}, not {camera!r}.",
            "Set planner.options.camera to one of them.",
        )
    return settings.cameras.index(camera)


@dataclass(frozen=True)
class _Drawn:
    """What the generator made.

    Attributes:
        handed: (samples, L, C, h, w) raw latents or features, as the handover asks.
        clean: gives normalised residuals and the path (samples, frames, 4) told beside them; may cost a pass.
    """

    handed: torch.Tensor
    clean: Callable[[], tuple[torch.Tensor, torch.Tensor]]


def _clean(out: PlanOutput) -> tuple[torch.Tensor, torch.Tensor]:
    return out.residual, out.path


def _maps(features: torch.Tensor, tap: str) -> torch.Tensor:
    if features.ndim != 4:
        raise ConfigError(
            f"tap {tap!r}: expected a module that gives maps (B, C, h, w), found shape {tuple(features.shape)}.",
            "Name a convolution or a block of them.",
        )
    return features


class _Decoder:
    """Decodes one plan when its frames are first asked for, and notes how long it took."""

    def __init__(
        self,
        planner: EmbeddedPlanner,
        drawn: _Drawn,
        first: torch.Tensor,
        sample: int,
        pixels: NDArray[np.uint8],
        ms: dict[str, float],
    ) -> None:
        self._planner, self._drawn, self._first = planner, drawn, first
        self._sample, self._pixels, self._ms = sample, pixels, ms

    @torch.inference_mode()
    def __call__(self) -> NDArray[np.uint8]:
        began = time.perf_counter()
        residual = self._drawn.clean()[0][self._sample : self._sample + 1]
        frames = self._planner.decode(self._planner.raw_latents(self._first, residual)[0], self._pixels)
        self._ms["decode"] = _since(began)
        return frames


def _weights_folder(folder: Path | None) -> Path:
    """Return the folder of weights: the shipped one, the one given, or the one inside a training run's output."""
    if folder is None:
        return DEFAULT_WEIGHTS
    inside = folder / "weights"
    return inside if not (folder / SUMS).is_file() and inside.is_dir() else folder


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
