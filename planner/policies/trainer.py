"""`cascade train planner --backend policy`: demonstrations to the weights of policies, all on the same data."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.contracts import EpisodeSource
from cascade.contracts.compact import packed, unpacked
from cascade.contracts.errors import ConfigError
from planner.policies.card import policy_card
from planner.policies.material import ENCODE_BATCH, Material
from planner.policies.network import PolicyNetwork, PolicyOutput
from planner.policies.options import Kind, PolicyTrainerConfig
from planner.policies.samples import FRAME_S, STEP_S, load_films
from planner.policies.weights import PolicySettings, save_policy
from planner.training.checkpoint import generator_state, load_checkpoint, restore_generator, save_checkpoint
from planner.training.loop import Stage, StageRunner
from planner.training.monitor import TrainingMonitor

OPENING_WEIGHT = 2.0
MEASURED_STATES = 256
SAVE_EVERY_S, MEASURE_EVERY_S = 60.0, 150.0


class PolicyTrainer:
    """Trains policies one after the other on demonstrations read once (a Trainer).

    Each gets the same minutes of processor time, so that it does not matter what else the machine does meanwhile.
    """

    def __init__(self, options: PolicyTrainerConfig) -> None:
        self._options = options

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into `output`/KIND and return the scores; the weights are in `output`/KIND/weights.

        Raises:
            ConfigError: `output` holds a run and `resume` is not set.
            DataError: there is no successful demonstration, or one lacks the camera.
            WeightsError: the sentence encoder or the auto-encoder is missing, or a checkpoint is corrupt.
        """
        options = self._options
        states = {kind: load_checkpoint(output / kind) for kind in options.kinds}
        if any(state is not None for state in states.values()) and not resume:
            raise ConfigError(f"{output}: holds a training run already.", "Resume it, or choose another folder.")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        scores: dict[str, Any] = {}
        with TrainingMonitor(output) as monitor:
            monitor.begin("reading demonstrations")
            films = load_films(
                episodes,
                camera=options.camera,
                horizon=PolicyNetwork().horizon,
                held_out=options.held_out,
                tick=lambda done, total: monitor.advance(done / total, f"{done}/{total}"),
            )
            material = Material(
                films,
                seed=options.seed,
                autoencoder=options.autoencoder,
                frames=PolicyNetwork().frames,
                tick=monitor.advance,
            )
            if set(options.kinds) - {"bc"}:
                monitor.begin("encoding frames")
                material.encode()
            for kind, state in states.items():
                run = _Run(kind, options, material, output / kind, monitor, episodes.digest, state)
                scores |= {f"{kind}/{name}": value for name, value in run.go().items()}
        return scores


class _Run:
    """The training of one policy."""

    def __init__(
        self,
        kind: Kind,
        options: PolicyTrainerConfig,
        material: Material,
        output: Path,
        monitor: TrainingMonitor,
        digest: str,
        state: dict[str, Any] | None,
    ) -> None:
        self.kind, self.options, self.material, self.output = kind, options, material, output
        self.monitor, self.digest, self.state = monitor, digest, state
        torch.manual_seed(options.seed)
        self.network: Any = PolicyNetwork(kind=kind)
        self.rng = np.random.default_rng(options.seed)
        if state is not None:
            restore_generator(self.rng, state["rng"])

    def _loss(self) -> tuple[Tensor, Mapping[str, float]]:
        picks = self.material.draw(self.options.batch, self.rng)
        seen, targets, video = self.material.batch(picks, self.rng, video=self.kind != "bc")
        out: PolicyOutput = self.network(**seen)
        motion = F.smooth_l1_loss(out.actions[..., :3], targets[..., :3] / self.material.target_std, beta=0.2)
        opening = F.mse_loss(out.actions[..., 3], targets[..., 3])
        loss = motion + OPENING_WEIGHT * opening
        values = {"motion": float(motion.detach()), "opening": float(opening.detach())}
        if out.video is not None and video is not None:
            imagined = F.mse_loss(out.video, video)
            values["video"] = float(imagined.detach())
            loss = loss + self.options.video_weight * imagined
        return loss, values

    @torch.no_grad()
    def _measure(self, network: nn.Module) -> Mapping[str, float]:
        """Measure on held-out demonstrations, or on those learnt from when none is held out."""
        network.eval()
        picks = self.material.measured(MEASURED_STATES)
        errors, openings, videos = [], [], []
        for start in range(0, len(picks), ENCODE_BATCH):
            part = picks[start : start + ENCODE_BATCH]
            seen, targets, video = self.material.batch(part, None, video=self.kind == "joint")
            out: PolicyOutput = network(**seen)
            offset = out.actions[..., :3] * self.material.target_std - targets[..., :3]
            errors.append(offset.norm(dim=-1).flatten())
            openings.append((out.actions[..., 3].clamp(0, 1) - targets[..., 3]).abs().flatten())
            if out.video is not None and video is not None:
                videos.append((out.video - video).pow(2).mean().item())
        values = {"target_error_mm": float(torch.cat(errors).mean()) * 1e3}
        values["opening_error"] = float(torch.cat(openings).mean())
        if videos:
            values["video_error"] = float(np.mean(videos))  # 1 is what the mean change scores
        return values

    def go(self) -> dict[str, Any]:
        """Train, pack into 8 bits, measure what was packed, and write the weights."""
        options = self.options
        stage = Stage(self.kind, self.network, self._loss, self._measure, options.minutes, options.learning_rate)
        runner = StageRunner(stage, self.monitor, self.state and self.state["stage"], now=time.process_time)

        def save() -> None:
            save_checkpoint(self.output, {"stage": runner.state(), "rng": generator_state(self.rng)})

        scores: dict[str, Any] = dict(
            runner.run(
                save=save, save_every_s=SAVE_EVERY_S, measure_every_s=MEASURE_EVERY_S, max_steps=options.max_steps
            )
        )
        save()
        self.network.load_state_dict(unpacked(packed(runner.ema.network.state_dict())))
        scores |= {f"as stored/{key}": value for key, value in self._measure(self.network).items()}
        scores["steps"] = runner.progress.steps
        scores["parameters"] = sum(p.numel() for p in self.network.parameters())
        return {"weights": str(self._export(scores)), **scores}

    def _export(self, scores: Mapping[str, float]) -> Path:
        material = self.material
        made = {
            "data": self.digest,
            "demonstrations": sum(not film.held_out for film in material.films),
            "held_out": sum(film.held_out for film in material.films),
            "options": self.options.model_dump(mode="json"),
            "frame_s": FRAME_S,
            "tasks": material.tasks,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "scores": dict(scores),
        }
        settings = PolicySettings(
            kind=self.kind,
            camera=self.options.camera,
            hand_mean=_row(material.hand_mean),
            hand_std=_row(material.hand_std),
            target_std=material.target_std,
            latent_mean=_row(material.latent_mean.numpy()),
            latent_std=_row(material.latent_std.numpy()),
            step_s=STEP_S,
            provenance=made,
        )
        partial, final = self.output / "weights.partial", self.output / "weights"
        shutil.rmtree(partial, ignore_errors=True)
        save_policy(self.network, settings, partial, policy_card(settings))
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        return final


def _row(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
