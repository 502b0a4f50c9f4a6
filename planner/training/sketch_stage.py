"""The sketch alone: where the hand will go, learnt before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from planner.networks.unet import PlanUNet
from planner.training.data import Window, WindowSampler, held_out_windows
from planner.training.plan_batches import PlanBatch, PlanBatches

SKETCH_WEIGHT, TASK_WEIGHT = 0.5, 0.05
WINDOW_SHARE = 0.2  # of batches, when there are looks besides
HELD_OUT_LIMIT = 132
LOOKS_LIMIT = 800
END_WEIGHT, GRASP_WEIGHT = 3.0, 2.0
GRASP_CHANGE = 0.5  # of the opening between two frames, in standard deviations


def frame_weights(path: Tensor) -> Tensor:
    """Return (B, T) weights with a mean of 1 for the frames after the first of true paths (B, T + 1, 4).

    A task hangs on where it ends and where the gripper closes or opens; how far a hand has come in between is mostly a
    matter of timing, which no image tells.
    """
    changes = (path[:, 1:, 3] - path[:, :-1, 3]).abs().nan_to_num() > GRASP_CHANGE
    weights = 1 + GRASP_WEIGHT * changes.float()
    weights[:, -1] += END_WEIGHT
    return weights / weights.mean(dim=1, keepdim=True)


def mean_error(guess: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute error, weighted by frame, where `true` is known (not NaN), as if the rest were right."""
    known = torch.isfinite(true)
    return (torch.where(known, guess - true.nan_to_num(), 0.0).abs() * weights[..., None]).mean()


def sketch_losses(sketch: Tensor, task: Tensor, batch: PlanBatch) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a sketched path (B, frames, 6) and of task logits, and its parts.

    Rows of videos, whose path is unknown, have no share in the path's loss; their words mean a task all the same.
    """
    weights = frame_weights(batch.path)
    path = mean_error(sketch[..., :4], batch.path[:, 1:], weights)
    aim = mean_error(sketch[..., 4:], batch.uv[:, 1:], weights)
    meant = F.cross_entropy(task, batch.task)
    total = SKETCH_WEIGHT * (path + 2 * aim) + TASK_WEIGHT * meant
    return total, {"sketch": float(path.detach()), "aim": float(aim.detach()), "task": float(meant.detach())}


def medians(error_m: Tensor, groups: Sequence[tuple[int, str]], name: str) -> dict[str, float]:
    """Return medians in mm of errors (rows, frames) per camera and per task, rows being of (camera, task)."""
    rows: dict[str, list[int]] = {}
    for row, (camera, task) in enumerate(groups):
        rows.setdefault(f"camera_{camera}", []).append(row)
        rows.setdefault(task, []).append(row)
    several = len({camera for camera, _ in groups}) > 1
    return {f"{name}_{k}_mm": float(error_m[which].median()) * 1000 for k, which in rows.items() if several}


class SketchStage:
    """Loss and measurement of the sketch.

    Where to go is the hard part of a plan and costs a fifth of drawing it; and it can be learnt from first looks, of
    which there are many more layouts than of films.
    """

    def __init__(self, batches: PlanBatches, network: PlanUNet, sampler: WindowSampler, tasks: tuple[str, ...]) -> None:
        self.network, self._batches, self._sampler, self._tasks = network, batches, sampler, tasks
        context = batches.context
        self._windows = held_out_windows(context.tracks, context.frames, HELD_OUT_LIMIT, context.start_frame)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a random batch."""
        context, looks = self._batches.context, self._batches.looks
        if looks is None or context.rng.random() < WINDOW_SHARE:
            batch = self._batches.make(self._sampler.draw(context.batch), latents=False)
        else:
            batch = self._batches.look(looks, looks.draw(context.batch, context.rng))
        return sketch_losses(*self._sketch(self.network, batch), batch)

    @torch.no_grad()
    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return errors of sketched paths: of held-out episodes from their start, and of held-out looks."""
        values = {}
        tracks = [self._batches.context.tracks[w.track] for w in self._windows]
        found = [(t.camera, t.task) for t in tracks]
        values.update(self._errors(network, self._windows, found, "sketch"))
        looks = self._batches.looks
        if looks is not None and len(rows := looks.kept(LOOKS_LIMIT)):
            found = [(int(looks.camera[row]), self._tasks[looks.task[row]]) for row in rows]
            values.update(self._errors(network, rows, found, "look"))
        return values

    def _errors(self, network: Any, rows: Any, groups: Sequence[tuple[int, str]], name: str) -> dict[str, float]:
        batches, errors = self._batches, []
        for at in range(0, len(rows), 16):
            some: list[Window] | np.ndarray[Any, Any] = rows[at : at + 16]
            if isinstance(some, list):
                batch = batches.make(some, plain_words=True, jitter=False, latents=False)
            else:
                assert batches.looks is not None  # noqa: S101  (rows are its own)
                batch = batches.look(batches.looks, some, plain=True)
            sketch, _ = self._sketch(network, batch)
            off = (sketch[..., :3] - batch.path[:, 1:, :3]).norm(dim=-1)
            errors.append(off * batches.scales.position_std[0])
        all_off = torch.cat(errors)
        values = {
            f"{name}_median_mm": float(all_off.median()) * 1000,
            f"{name}_mean_mm": float(all_off.mean()) * 1000,
            f"{name}_end_median_mm": float(all_off[:, -1].median()) * 1000,
            f"{name}_end_mean_mm": float(all_off[:, -1].mean()) * 1000,
        }
        return values | medians(all_off, groups, name)

    def _sketch(self, network: Any, batch: PlanBatch) -> tuple[Tensor, Tensor]:
        with self._batches.context.autocast():
            _, (_, sketch, _), task = network.look(batch.image, batch.text, batch.camera, batch.hand, batch.stride)
        return sketch, task
