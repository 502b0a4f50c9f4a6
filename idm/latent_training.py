"""Trains the network that reads a planner's latents, on a wall-clock schedule, resumable at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade.contracts import EpisodeSource, Planner, entry_points
from idm.calibration import Readings, calibrate
from idm.frames import ExtraFrames
from idm.latent_card import latent_card
from idm.latent_data import LabelledPlans, PlanForm, make_plans
from idm.latent_network import LatentInverseDynamicsNet, LatentReading
from idm.options import LatentTrainerConfig
from idm.session import (
    CHECKPOINT,
    TrainingState,
    bar,
    board,
    fresh_state,
    move_average,
    restore_checkpoint,
    save_checkpoint,
    schedule,
)
from idm.weights import save_network

LOG_EVERY = 20
Indices = NDArray[np.int64]
State = TrainingState[LatentInverseDynamicsNet]


class LatentTrainer:
    """See `LatentTrainerConfig` for the options. A resumed run goes on with the time or steps that were left."""

    def __init__(self, config: LatentTrainerConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng(config.seed)

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into the folder `output`; the weights, card and checksums lie there at the end.

        Raises:
            ConfigError: the planner gives no latents, or `output` holds plans of another planner or other data.
            DataError: too few successful demonstrations, or the planner's camera is not among theirs.
            WeightsError: the checkpoint to resume cannot be used.
        """
        config = self._config
        output.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        plans, form = make_plans(
            self._planner(),
            episodes,
            output / "plans",
            windows=config.windows,
            seed=config.seed,
            limit=config.limit_episodes,
        )
        fit, held = _split(plans, config.held_out, config.seed)
        state = self._begin(plans, form, fit)
        if resume and (output / CHECKPOINT).is_file():
            restore_checkpoint(state, output / CHECKPOINT)
        self._run(state, plans, fit, output)
        return self._finish(state, plans, fit, held, output, episodes.digest)

    def _planner(self) -> Planner:
        choice = self._config.planner
        spec = entry_points.load("cascade.planners", "planner", choice.name)
        options = entry_points.validate(spec, choice.options, "planner.options")
        planner: Planner = entry_points.build(spec, options, "planner", choice.name)
        return planner

    def _begin(self, plans: LabelledPlans, form: PlanForm, fit: Indices) -> State:
        config = self._config
        position = plans.path[fit, :, :3].reshape(-1, 3).astype(np.float64)
        opening = plans.path[fit, :, 3].astype(np.float64)
        net: Any = LatentInverseDynamicsNet(
            **asdict(form),
            position_mean_m=tuple(position.mean(0).tolist()),
            position_std_m=(float(position.std(0).mean()) + 1e-3,) * 3,
            opening_mean=float(opening.mean()),
            opening_std=float(opening.std()) + 1e-2,
            width=config.width,
            hidden=config.hidden,
            planner=config.planner.model_dump(mode="json"),
            action_space={"kind": "ee_pose", "frame": "base", "rate_hz": None},
        )
        some = torch.from_numpy(plans.latents[fit[:: max(1, len(fit) // 256)]].astype(np.float32))
        net.mean.copy_(some.mean((0, 1, 3, 4)))
        net.std.copy_(some.std((0, 1, 3, 4)).clamp(min=1e-3))
        return fresh_state(net.to(config.device), config.learning_rate)

    def _run(self, state: State, plans: LabelledPlans, fit: Indices, output: Path) -> None:
        config, budget_s = self._config, self._config.minutes * 60
        last_saved = state.spent_s
        with board(output) as log, bar(budget_s, state.spent_s) as show:
            while (share := state.share(budget_s, config.steps)) < 1:
                begun = time.monotonic()
                rate = config.learning_rate * schedule(share)
                losses = self._step(state, plans, self._rng.choice(fit, config.batch), rate)
                state.spent_s += time.monotonic() - begun
                if state.step % LOG_EVERY == 0:
                    show(state.spent_s, losses)
                    log({**losses, "learning_rate": rate}, state.step)
                if state.spent_s - last_saved > config.checkpoint_s:
                    save_checkpoint(state, output / CHECKPOINT)
                    last_saved = state.spent_s
        save_checkpoint(state, output / CHECKPOINT)

    def _step(self, state: State, plans: LabelledPlans, rows: Indices, rate: float) -> dict[str, float]:
        net = state.net
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        latents, hand, path = self._batch(net, plans, rows)
        spread = net.std.to(latents)[:, None, None]
        level = self._config.noise * torch.rand(len(rows), 1, 1, 1, 1, device=latents.device)
        reading = net(latents + level * spread * torch.randn_like(latents), hand)
        loss = latent_loss(reading, path)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        state.optimiser.step()
        state.step += 1
        state.frames_seen += path.shape[0] * path.shape[1]
        move_average(state, self._config.ema)
        off = (reading.position - path[..., :3]).detach().norm(dim=-1).mean()
        return {"loss": float(loss.detach()), "error_mm": float(off) * net.config.position_std_m[0] * 1000}

    def _batch(
        self, net: LatentInverseDynamicsNet, plans: LabelledPlans, rows: Indices
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents, the hand at the plan's start and the path, the latter two normalised."""
        config, device = net.config, self._config.device
        mean = np.array([*config.position_mean_m, config.opening_mean])
        std = np.array([*config.position_std_m, config.opening_std])
        path = torch.from_numpy(((plans.path[rows] - mean) / std).astype(np.float32)).to(device)
        return torch.from_numpy(plans.latents[rows].astype(np.float32)).to(device), path[:, 0], path

    def _finish(
        self, state: State, plans: LabelledPlans, fit: Indices, held: Indices, output: Path, digest: str
    ) -> Mapping[str, Any]:
        net: Any = state.net
        net.load_state_dict(state.average)
        net.eval()
        readings, truth = self._read(net, plans, held)
        factor_m, factor_o, scores = calibrate({"": (readings, truth)})
        net.register_to_config(temperature_position=factor_m, temperature_opening=factor_o)
        facts = {
            **scores,
            "steps": state.step,
            "minutes": state.spent_s / 60,
            "training_plans": len(fit),
            "training_episodes": len(np.unique(plans.episode[fit])),
            "parameters": sum(p.numel() for p in net.parameters()),
            "data_digest": digest,
            "space": net.config.space,
        }
        save_network(net, output, latent_card(facts, net.config, self._config))
        (output / "scores.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return facts

    @torch.no_grad()
    def _read(self, net: LatentInverseDynamicsNet, plans: LabelledPlans, held: Indices) -> tuple[Readings, ExtraFrames]:
        """Read held-out plans and pair them with the truth; frame 0, which is measured, is left out."""
        config, rows = net.config, []
        for at in range(0, len(held), 64):
            latents, hand, _ = self._batch(net, plans, held[at : at + 64])
            out = net(latents, hand)
            columns = (
                out.position,
                out.opening[..., None],
                out.position_log_var[..., None],
                out.opening_log_var[..., None],
            )
            rows.append(torch.cat(columns, -1)[:, 1:].double().cpu().numpy())
        table, path = np.concatenate(rows).reshape(-1, 6), plans.path[held, 1:].reshape(-1, 4)
        count = len(table)
        readings = Readings(
            position_m=table[:, :3] * np.array(config.position_std_m) + np.array(config.position_mean_m),
            opening=np.clip(table[:, 3] * config.opening_std + config.opening_mean, 0, 1),
            position_std_m=np.exp(table[:, 4] / 2) * config.position_std_m[0],
            opening_std=np.exp(table[:, 5] / 2) * config.opening_std,
        )
        truth = ExtraFrames(
            frames=np.zeros((count, 0, 0, 3), np.uint8),
            position_m=path[:, :3],
            opening=path[:, 3],
            episode=np.repeat(plans.episode[held], plans.path.shape[1] - 1),
            view=np.zeros(count, np.int64),
        )
        return readings, truth


def latent_loss(reading: LatentReading, path: Tensor) -> Tensor:
    """Likelihood of a normalised path (B, T, 4), and the plain error for the mean's sake.

    A Laplace likelihood is not led astray by the few plans that imagine something else than what happened.
    """
    parts = []
    for off, log_var in (
        ((reading.position - path[..., :3]).abs().mean(-1), reading.position_log_var),
        ((reading.opening - path[..., 3]).abs(), reading.opening_log_var),
    ):
        parts.append((off * (-log_var / 2).exp() + log_var / 2).mean() + off.mean())
    return parts[0] + 0.5 * parts[1]


def _split(plans: LabelledPlans, share: float, seed: int) -> tuple[Indices, Indices]:
    """Return rows (training, held out); whole episodes are held out, at least one of each kind."""
    owners = np.unique(plans.episode)
    count = min(max(1, round(share * len(owners))), len(owners) - 1)
    out = np.isin(plans.episode, np.random.default_rng(seed).permutation(owners)[:count])
    return np.flatnonzero(~out), np.flatnonzero(out)
