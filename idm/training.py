"""Trains the inverse-dynamics network on play, on a wall-clock schedule, resumable at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cascade.contracts import DataError, EpisodeSource, WeightsError
from cascade.contracts.compact import packed, unpacked
from idm.augmentation import spoil
from idm.calibration import calibrate, read_frames
from idm.card import model_card
from idm.frames import ExtraFrames, LabelledFrames, View, load_all_extra, load_views, sample_pairs, split_by_episode
from idm.loss import PairTarget, pair_loss, pose_loss
from idm.network import InverseDynamicsNet, single_view
from idm.options import TrainerConfig
from idm.precision import has_bf16
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
from idm.weights import load_network, save_network, weights_digest

LOG_EVERY = 20


class InverseDynamicsTrainer:
    """See `TrainerConfig` for the options.

    The schedule is a cosine over wall-clock minutes, so a run of any length ends annealed; a resumed run goes on with
    the time that was left.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._rng = np.random.default_rng(config.seed)

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into the folder `output`; the weights, card and checksums lie there at the end.

        Raises:
            DataError: no play, too few episodes, or frames of another form.
            WeightsError: the weights to start from, or the checkpoint to resume, cannot be used.
        """
        config = self._config
        output.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        cameras = config.cameras or (config.camera,)
        data, views = load_views(episodes, cameras, config.image_size_px, limit=config.limit_episodes)
        fit, held = split_by_episode(data, config.held_out, config.seed)
        extra, extra_held = self._extra(np.unique(data.episode[held]), len(views))
        state = self._begin(data, fit, views)
        if resume and (output / CHECKPOINT).is_file():
            restore_checkpoint(state, output / CHECKPOINT)
        self._run(state, data, fit, extra, output)
        return self._finish(state, data, held, extra, extra_held, output, episodes.digest)

    def _extra(self, held_episodes: np.ndarray[Any, Any], views: int) -> tuple[ExtraFrames | None, ExtraFrames | None]:
        """Extra frames to train on, and those made from held-out episodes."""
        given = self._config.extra_frames
        if given is None:
            return None, None
        paths = (given,) if isinstance(given, Path) else given
        if len(paths) != views:
            raise DataError(f"extra_frames: expected one file for each of {views} views, found {len(paths)}.")
        extra = load_all_extra(paths, self._config.image_size_px)
        out = np.isin(extra.episode, held_episodes)
        return extra.part(~out), extra.part(out) if out.any() else None

    def _begin(
        self, data: LabelledFrames, fit: np.ndarray[Any, Any], views: tuple[View, ...]
    ) -> TrainingState[InverseDynamicsNet]:
        config = self._config
        net = _fresh_network(data, fit, views, config.image_size_px)
        if config.init is not None:
            _start_from(net, config.init)
        net = net.to(device=config.device, memory_format=torch.channels_last)
        return fresh_state(net, config.learning_rate)

    def _run(
        self,
        state: TrainingState[InverseDynamicsNet],
        data: LabelledFrames,
        fit: np.ndarray[Any, Any],
        extra: ExtraFrames | None,
        output: Path,
    ) -> None:
        config = self._config
        budget_s = config.minutes * 60
        bf16 = config.bf16 if config.bf16 is not None else has_bf16(config.device)
        last_saved = state.spent_s
        with board(output) as log, bar(budget_s, state.spent_s) as show:
            while (share := state.share(budget_s, config.steps)) < 1:
                begun = time.monotonic()
                rate = config.learning_rate * schedule(share)
                losses = self._step(state, data, fit, extra, rate, bf16)
                state.spent_s += time.monotonic() - begun
                if state.step % LOG_EVERY == 0:
                    show(state.spent_s, {**losses, "frames/s": state.frames_seen / state.spent_s})
                    log({**losses, "learning_rate": rate}, state.step)
                if state.spent_s - last_saved > config.checkpoint_s:
                    save_checkpoint(state, output / CHECKPOINT)
                    last_saved = state.spent_s
        save_checkpoint(state, output / CHECKPOINT)

    def _step(
        self,
        state: TrainingState[InverseDynamicsNet],
        data: LabelledFrames,
        fit: np.ndarray[Any, Any],
        extra: ExtraFrames | None,
        rate: float,
        bf16: bool,
    ) -> dict[str, float]:
        config, net = self._config, state.net
        images, view, position, opening, target = self._batch(net, data, fit, extra)
        pairs = len(target.seconds)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            encoding = net.encode(images, view)
            pose = net.pose(encoding)
            current = type(encoding)(*(part[:pairs] for part in encoding))
            goal = type(encoding)(*(part[pairs : 2 * pairs] for part in encoding))
            motion = net.motion(current, goal, position[:pairs], opening[:pairs])
        pose_part = pose_loss(net, encoding, pose, position, opening)
        pair_part = pair_loss(motion, target)
        loss = pose_part + config.pair_weight * pair_part
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        state.optimiser.step()
        state.step += 1
        state.frames_seen += len(images)
        move_average(state, config.ema)
        if state.step % LOG_EVERY:
            return {}
        error = (pose.position_m - position).detach().norm(dim=1).mean()
        return {"loss": float(loss.detach()), "pair": float(pair_part.detach()), "error_mm": float(error) * 1000}

    def _batch(
        self, net: InverseDynamicsNet, data: LabelledFrames, fit: np.ndarray[Any, Any], extra: ExtraFrames | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, PairTarget]:
        """Current frames, goal frames, then extra frames; spoiled, with labels that follow the shift."""
        config, rng = self._config, self._rng
        extras = round(config.batch * config.extra_share) if extra is not None else 0
        count = (config.batch - extras) // 2
        pairs = sample_pairs(data, fit, count, rng, reach_s=config.reach_s, next_s=net.config.next_s)
        rows = np.concatenate([pairs.current, pairs.goal])
        pixels, position, opening = [data.frames[rows]], [data.position_m[rows]], [data.opening[rows]]
        through = [data.view[rows]]
        if extra is not None:
            chosen = rng.integers(len(extra.frames), size=extras)
            pixels.append(extra.frames[chosen])
            position.append(extra.position_m[chosen])
            opening.append(extra.opening[chosen])
            through.append(extra.view[chosen])
        first = data.first[rows]
        other = _in_view(data, data.first[rng.choice(fit, len(rows) + extras)], np.concatenate(through))
        other[: len(first)] = np.where(rng.random(len(first)) < 0.5, first, other[: len(first)])
        images, moved = spoil(_images(np.concatenate(pixels)), _images(data.frames[other]), rng)
        device = config.device
        view = torch.from_numpy(np.concatenate(through)).to(device)
        places = _moved(net, torch.from_numpy(np.concatenate(position)).to(device), moved.to(device), view)
        openings = torch.from_numpy(np.concatenate(opening)).to(device)
        target = PairTarget(
            to_goal_m=torch.from_numpy(data.position_m[pairs.goal] - data.position_m[pairs.current]).to(device),
            next_m=torch.from_numpy(data.position_m[pairs.soon] - data.position_m[pairs.current]).to(device),
            goal_opening=torch.from_numpy(data.opening[pairs.goal]).to(device),
            seconds=torch.from_numpy(pairs.seconds).to(device),
        )
        return images.to(device), view, places, openings, target

    def _finish(
        self,
        state: TrainingState[InverseDynamicsNet],
        data: LabelledFrames,
        held: np.ndarray[Any, Any],
        extra: ExtraFrames | None,
        extra_held: ExtraFrames | None,
        output: Path,
        digest: str,
    ) -> Mapping[str, Any]:
        net = state.net
        net.load_state_dict(unpacked(packed(state.average)) if self._config.compact else state.average)
        net.eval()
        bf16 = has_bf16(self._config.device)
        recorded = ExtraFrames(
            frames=data.frames[held],
            position_m=data.position_m[held],
            opening=data.opening[held],
            episode=data.episode[held],
            view=data.view[held],
        )
        sets = {"": recorded} if extra_held is None else {"": recorded, "extra_": extra_held}
        if len(net.cameras) > 1:
            sets |= {f"{c}_": recorded.seen_through(i) for i, c in enumerate(net.cameras)}
        readings = {n: (read_frames(net, part.frames, part.view, bf16=bf16), part) for n, part in sets.items()}
        factor_m, factor_o, scores = calibrate(readings)
        net.register_to_config(temperature_position=factor_m, temperature_opening=factor_o)
        facts = {
            **scores,
            "steps": state.step,
            "frames_seen": state.frames_seen,
            "minutes": state.spent_s / 60,
            "training_frames": len(data) - len(held),
            "extra_frames": 0 if extra is None else len(extra.frames),
            "parameters": sum(p.numel() for p in net.parameters()),
            "data_digest": digest,
            "start": "scratch" if self._config.init is None else f"weights {weights_digest(self._config.init)}",
        }
        save_network(net, output, model_card(facts, self._config), compact=self._config.compact)
        (output / "scores.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return facts


def _fresh_network(
    data: LabelledFrames, fit: np.ndarray[Any, Any], views: tuple[View, ...], size_px: int
) -> InverseDynamicsNet:
    position = data.position_m[fit].astype(np.float64)
    known = [_known(view, data.position_m[fit[data.view[fit] == i]]) for i, view in enumerate(views)]
    net: InverseDynamicsNet = InverseDynamicsNet(
        image_size_px=size_px,
        position_mean_m=position.mean(0).tolist(),
        position_std_m=(position.std(0) + 1e-3).tolist(),
        action_space={"kind": "ee_pose", "frame": "base", "rate_hz": None},
        **(known[0] if len(known) == 1 else {"camera": known[0]["camera"], "views": known}),
    )
    return net


def _known(view: View, position_m: np.ndarray[Any, Any]) -> dict[str, Any]:
    depth = (position_m.astype(np.float64) - view.T_base_cam[:3, 3]) @ view.T_base_cam[:3, 2]
    mean, std = float(depth.mean()), float(depth.std() + 1e-3)
    return single_view(view.name, view.K.tolist(), view.T_base_cam.tolist(), mean, std)


def _start_from(net: InverseDynamicsNet, folder: Path) -> None:
    """Give a fresh network what earlier weights have learnt; the geometry of their views stays behind."""
    try:
        net.take_over(load_network(folder))
    except RuntimeError as error:
        raise WeightsError(
            f"{folder}: expected weights of a network of this size, found another ({error}).", "Start without init."
        ) from error


def _images(pixels: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)


def _in_view(data: LabelledFrames, rows: np.ndarray[Any, Any], view: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same moments seen through other views: every view holds the same frames, one view after the other."""
    count = len(data) // (int(data.view[-1]) + 1)
    moved: np.ndarray[Any, Any] = rows % count + view * count
    return moved


def _moved(net: InverseDynamicsNet, position_m: Tensor, shift: Tensor, view: Tensor) -> Tensor:
    """Where the hand would be for its picture to lie `shift` further on, at the same distance."""
    place, depth = net.project(position_m, view)
    return net.unproject(place + shift, depth, view)
