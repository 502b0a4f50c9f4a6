"""`cascade train planner --backend policy`: demonstrations to the weights of one policy."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.contracts import EpisodeSource
from cascade.contracts.errors import ConfigError
from planner.policies.card import policy_card
from planner.policies.network import PolicyNetwork, PolicyOutput
from planner.policies.options import PolicyTrainerConfig
from planner.policies.samples import FRAME_S, STEP_S, Film, load_films
from planner.policies.weights import PolicySettings, save_policy
from planner.storage import packed, unpacked
from planner.training.checkpoint import generator_state, load_checkpoint, restore_generator, save_checkpoint
from planner.training.loop import Stage, StageRunner
from planner.training.monitor import TrainingMonitor
from planner.training.words import WordBank

ENCODE_BATCH = 64
OPENING_WEIGHT = 2.0
MEASURED_STATES = 256


class PolicyTrainer:
    """Trains one policy; resumed where its clock stopped (a Trainer)."""

    def __init__(self, options: PolicyTrainerConfig) -> None:
        self._options = options

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into `output` and return the scores; the weights are in `output`/weights.

        Raises:
            ConfigError: `output` holds a run and `resume` is not set.
            DataError: there is no successful demonstration, or one lacks the camera.
            WeightsError: the sentence encoder or the auto-encoder is missing, or a checkpoint is corrupt.
        """
        state = load_checkpoint(output)
        if state is not None and not resume:
            raise ConfigError(f"{output}: holds a training run already.", "Resume it, or choose another folder.")
        if self._options.threads is not None:
            torch.set_num_threads(self._options.threads)
        with TrainingMonitor(output) as monitor:
            return _Run(self._options, episodes, output, monitor, state).go()


class _Run:
    """One session of training."""

    def __init__(
        self,
        options: PolicyTrainerConfig,
        episodes: EpisodeSource,
        output: Path,
        monitor: TrainingMonitor,
        state: dict[str, Any] | None,
    ) -> None:
        self.options, self.output, self.monitor, self.state = options, output, monitor, state
        self.digest = episodes.digest
        torch.manual_seed(options.seed)
        self.rng = np.random.default_rng(options.seed)
        self.network: Any = PolicyNetwork(kind=options.kind)
        monitor.begin("reading demonstrations")
        self.films = load_films(
            episodes,
            camera=options.camera,
            horizon=self.network.horizon,
            held_out=options.held_out,
            tick=lambda done, total: monitor.advance(done / total, f"{done}/{total}"),
        )
        self.words = WordBank(((film.task, film.instruction) for film in self.films), options.seed)
        self.learnt: dict[str, list[int]] = {}
        for index, film in enumerate(self.films):
            if not film.held_out:
                self.learnt.setdefault(film.task, []).append(index)
        self.tasks = sorted(self.learnt)
        hand = np.concatenate([self.films[i].hand for group in self.learnt.values() for i in group])
        offsets = np.concatenate([self.films[i].targets[..., :3] for group in self.learnt.values() for i in group])
        self.hand_mean, self.hand_std = hand.mean(0), hand.std(0) + 1e-4
        self.target_std = float(offsets.std())
        self.latents: list[Tensor] = self._encoded() if options.kind != "bc" else []
        self.latent_mean, self.latent_std = self._latent_scale()

    def _encoded(self) -> list[Tensor]:
        """Return per film (N, channels, h, w) float16 latents of its frames."""
        from planner.networks.autoencoder import FrameAutoencoder
        from planner.storage import load_network
        from planner.weights import DEFAULT_WEIGHTS, check_sums

        folder = self.options.autoencoder or DEFAULT_WEIGHTS
        check_sums(folder)
        autoencoder = load_network(FrameAutoencoder, folder / "ae", torch.float32).eval()
        self.monitor.begin("encoding frames")
        result = []
        with torch.inference_mode():
            for index, film in enumerate(self.films):
                parts = [autoencoder.encode(images(part)).half() for part in _parts(film.frames)]
                result.append(torch.cat(parts).clone())
                self.monitor.advance((index + 1) / len(self.films), f"{index + 1}/{len(self.films)}")
        return result

    def _latent_scale(self) -> tuple[Tensor, Tensor]:
        if not self.latents:
            return torch.zeros(0), torch.ones(0)
        sample = [self._future(i, 0) for group in self.learnt.values() for i in group[:: max(1, len(group) // 8)]]
        change = torch.stack(sample).permute(2, 0, 1, 3, 4).flatten(1)
        return change.mean(1), change.std(1) + 1e-3

    def _future(self, film: int, start: int) -> Tensor:
        """Return (frames, channels, h, w): how the latents change until each imagined frame."""
        latents = self.latents[film]
        wanted = torch.arange(start + 1, start + 1 + self.network.frames).clamp(max=len(latents) - 1)
        return latents[wanted].float() - latents[start].float()

    def _batch(self, picks: list[tuple[int, int]], plain: bool = False) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        films = [self.films[i] for i, _ in picks]
        frames = np.stack([film.frames[s] for film, (_, s) in zip(films, picks, strict=True)])
        hand = np.stack([film.hand[s] for film, (_, s) in zip(films, picks, strict=True)])
        targets = np.stack([film.targets[s] for film, (_, s) in zip(films, picks, strict=True)])
        words = [self.words.plain(f.task) if plain else self.words.draw(f.task, self.rng) for f in films]
        seen = {
            "image": images(frames),
            "words": torch.from_numpy(np.stack(words)),
            "hand": torch.from_numpy(((hand - self.hand_mean) / self.hand_std).astype(np.float32)),
        }
        if self.latents:
            change = torch.stack([self._future(i, s) for i, s in picks])
            video = (change - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
        else:
            video = torch.zeros(0)
        return seen, torch.from_numpy(targets), video

    def _loss(self) -> tuple[Tensor, Mapping[str, float]]:
        picks = []
        for _ in range(self.options.batch):
            group = self.learnt[self.tasks[int(self.rng.integers(len(self.tasks)))]]
            film = group[int(self.rng.integers(len(group)))]
            picks.append((film, int(self.rng.integers(len(self.films[film].frames)))))
        seen, targets, video = self._batch(picks)
        out: PolicyOutput = self.network(**seen)
        motion = F.smooth_l1_loss(out.actions[..., :3], targets[..., :3] / self.target_std, beta=0.2)
        opening = F.mse_loss(out.actions[..., 3], targets[..., 3])
        loss = motion + OPENING_WEIGHT * opening
        values = {"motion": float(motion.detach()), "opening": float(opening.detach())}
        if out.video is not None:
            imagined = F.mse_loss(out.video, video)
            values["video"] = float(imagined.detach())
            loss = loss + self.options.video_weight * imagined
        return loss, values

    @torch.no_grad()
    def _measure(self, network: nn.Module) -> Mapping[str, float]:
        """Measure on held-out demonstrations, or on those learnt from when none is held out."""
        network.eval()
        kept = [i for i, film in enumerate(self.films) if film.held_out] or list(range(len(self.films)))
        picks = [(i, s) for i in kept for s in range(len(self.films[i].frames))]
        picks = picks[:: max(1, len(picks) // MEASURED_STATES)]
        errors, openings, videos = [], [], []
        for start in range(0, len(picks), ENCODE_BATCH):
            seen, targets, video = self._batch(picks[start : start + ENCODE_BATCH], plain=True)
            out: PolicyOutput = network(**seen)
            offset = out.actions[..., :3] * self.target_std - targets[..., :3]
            errors.append(offset.norm(dim=-1).flatten())
            openings.append((out.actions[..., 3].clamp(0, 1) - targets[..., 3]).abs().flatten())
            if out.video is not None:
                videos.append((out.video - video).pow(2).mean().item())
        values = {"target_error_mm": float(torch.cat(errors).mean()) * 1e3}
        values["opening_error"] = float(torch.cat(openings).mean())
        if videos:
            values["video_error"] = float(np.mean(videos))  # 1 is what "nothing changes on average" scores
        return values

    def go(self) -> dict[str, Any]:
        """Train, pack into 8 bits, measure what was packed, and write the weights."""
        options = self.options
        stage = Stage(options.kind, self.network, self._loss, self._measure, options.minutes, options.learning_rate)
        earlier = self.state["stage"] if self.state else None
        if self.state:
            restore_generator(self.rng, self.state["rng"])
        runner = StageRunner(stage, self.monitor, earlier)

        def save() -> None:
            save_checkpoint(self.output, {"stage": runner.state(), "rng": generator_state(self.rng)})

        scores = runner.run(save=save, save_every_s=60, measure_every_s=150, max_steps=options.max_steps)
        save()
        self.network.load_state_dict(unpacked(packed(runner.ema.network.state_dict())))
        stored = {f"as stored/{key}": value for key, value in self._measure(self.network).items()}
        scores = {**scores, **stored, "steps": runner.progress.steps}
        scores["parameters"] = sum(p.numel() for p in self.network.parameters())
        return {"weights": str(self._export(scores)), **scores}

    def _export(self, scores: Mapping[str, float]) -> Path:
        made = {
            "data": self.digest,
            "demonstrations": sum(not film.held_out for film in self.films),
            "held_out": sum(film.held_out for film in self.films),
            "options": self.options.model_dump(mode="json"),
            "frame_s": FRAME_S,
            "tasks": self.tasks,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "scores": dict(scores),
        }
        settings = PolicySettings(
            kind=self.options.kind,
            camera=self.options.camera,
            hand_mean=_row(self.hand_mean),
            hand_std=_row(self.hand_std),
            target_std=self.target_std,
            latent_mean=_row(self.latent_mean.numpy()),
            latent_std=_row(self.latent_std.numpy()),
            step_s=STEP_S,
            provenance=made,
        )
        partial, final = self.output / "weights.partial", self.output / "weights"
        shutil.rmtree(partial, ignore_errors=True)
        save_policy(self.network, settings, partial, policy_card(settings))
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        return final


def images(frames: NDArray[np.uint8]) -> Tensor:
    """Return (N, 3, H, W) in -1..1 of frames (N, H, W, 3) uint8."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _parts(frames: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [frames[start : start + ENCODE_BATCH] for start in range(0, len(frames), ENCODE_BATCH)]


def _row(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)


__all__ = ["Film", "PolicyTrainer", "images"]
