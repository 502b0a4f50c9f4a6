"""One loop for all stages: step, average, log, measure, save, until the clock has run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from planner.training.clock import Every, StageClock
from planner.training.ema import Ema
from planner.training.monitor import TrainingMonitor


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        name: of the stage, in logs and checkpoints.
        network: what is trained.
        loss: draws a batch and returns the loss to follow and values to log.
        measure: measures the averaged network on held-out episodes.
        minutes, learning_rate: of the schedule.
    """

    name: str
    network: nn.Module
    loss: Callable[[], tuple[Tensor, Mapping[str, float]]]
    measure: Callable[[nn.Module], Mapping[str, float]]
    minutes: float
    learning_rate: float


@dataclass
class Progress:
    """Where a stage stands: what a resumed run continues from."""

    steps: int = 0
    elapsed_s: float = 0.0


class StageRunner:
    """Runs one stage.

    Args:
        stage: what to run.
        state: saved by an earlier session of the same stage, or None.
        now: seconds of the schedule; wall time, or the processor's where others use the machine too.
    """

    def __init__(
        self,
        stage: Stage,
        monitor: TrainingMonitor,
        state: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stage, self._monitor, self._now = stage, monitor, now
        self.progress = Progress()
        self.optimiser = torch.optim.AdamW(
            stage.network.parameters(), lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        if state is not None:
            stage.network.load_state_dict(state["network"])
        self.ema = Ema(stage.network)
        if state is not None:
            self.ema.network.load_state_dict(state["ema"])
            self.ema.steps = int(state["steps"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.progress = Progress(int(state["steps"]), float(state["elapsed_s"]))

    def state(self) -> dict[str, Any]:
        """Return what `state` of the constructor wants."""
        return {
            "network": self.stage.network.state_dict(),
            "ema": self.ema.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.progress.steps,
            "elapsed_s": self.progress.elapsed_s,
        }

    def run(
        self,
        *,
        save: Callable[[], None],
        save_every_s: float,
        measure_every_s: float,
        measured: Callable[[Mapping[str, float]], None] = lambda scores: None,
        max_steps: int | None = None,
    ) -> dict[str, float]:
        """Train until the minutes are over and return the last measurement.

        Args:
            save: writes a checkpoint (also called when the run is interrupted).
            save_every_s: seconds between checkpoints.
            measure_every_s: seconds between measurements.
            measured: called with the scores after each measurement.
            max_steps: end earlier, at this many steps.
        """
        clock = StageClock(self.stage.minutes, elapsed_s=self.progress.elapsed_s, now=self._now)
        saving, measuring, logging = Every(save_every_s), Every(measure_every_s), Every(10.0)
        self._monitor.begin(self.stage.name)
        try:
            while not clock.over and (max_steps is None or self.progress.steps < max_steps):
                loss, values = self._step(clock.rate())
                self.progress.elapsed_s = clock.elapsed_s
                if logging.due():
                    rate = self.progress.steps / max(clock.elapsed_s, 1e-6)
                    self._monitor.record(self.stage.name, self.progress.steps, values, clock.elapsed_s)
                    self._monitor.advance(clock.share, f"loss {loss:.4f}  {rate:.2f} steps/s")
                if saving.due():
                    save()
                if measuring.due():
                    measured(self._measure(clock))
        except KeyboardInterrupt:
            save()
            raise
        result = self._measure(clock)
        self.progress.elapsed_s = max(self.progress.elapsed_s, self.stage.minutes * 60 if max_steps is None else 0.0)
        return result

    def _step(self, rate: float) -> tuple[float, Mapping[str, float]]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.stage.learning_rate * rate
        self.stage.network.train()
        loss, values = self.stage.loss()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.stage.network.parameters(), 1.0)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self.ema.update()
        self.progress.steps += 1
        return float(loss.detach()), {**values, "loss": float(loss.detach()), "lr_factor": rate}

    def _measure(self, clock: StageClock) -> dict[str, float]:
        values = {f"held_out/{k}": v for k, v in self.stage.measure(self.ema.network).items()}
        self._monitor.record(self.stage.name, self.progress.steps, values, clock.elapsed_s)
        note = "  ".join(f"{k.split('/')[-1]} {v:.3g}" for k, v in values.items())
        self._monitor.advance(clock.share, note[:100])
        return values
