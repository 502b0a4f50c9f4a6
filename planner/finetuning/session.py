"""The loop of fine-tuning: draw, noise, step, log, measure, show, save, until steps or minutes are over.

Every number that is drawn follows from the seed, the step and the place in the batch alone. So a resumed run and a run
in another number of processes see the same clips, words, noise levels and noise as an unbroken one in one process.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cascade.contracts.errors import DataError
from planner.finetuning.cache import TensorCache
from planner.finetuning.clips import Clip, Order
from planner.finetuning.monitor import Monitor
from planner.finetuning.objectives import Objective
from planner.finetuning.options import FinetuneConfig
from planner.finetuning.processes import Processes
from planner.finetuning.samples import Sampler, strip
from planner.finetuning.weights import restore, trained
from planner.training.checkpoint import save_checkpoint

LEVELS = 4  # noise levels at which every clip of a measurement is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a session works with.

    Attributes:
        options, processes, monitor, objective: see there.
        clips: all clips. cache: their tensors.
        sampler: makes sample videos; None in all processes but the first, and when none are wanted.
        output: folder of the run. identity: data and options, kept in checkpoints.
    """

    options: FinetuneConfig
    processes: Processes
    monitor: Monitor
    objective: Objective
    clips: list[Clip]
    cache: TensorCache
    sampler: Sampler | None
    output: Path
    identity: str


class Session:
    """One session of training.

    Args:
        setup: what to work with.
        network: what is trained, already frozen where it is not.
        state: checkpoint of an earlier session, or None.
    """

    def __init__(self, setup: Setup, network: Any, state: dict[str, Any] | None) -> None:
        self._setup, self._plain = setup, network
        options = setup.options
        self.step, self._elapsed_s, self._scores = 0, 0.0, dict[str, float]()
        if state is not None:
            restore(network, state["network"])
        self._parameters = list(trained(network).values())
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=options.weight_decay
        )
        if state is not None:
            self._optimiser.load_state_dict(state["optimiser"])
            self.step, self._elapsed_s, self._scores = state["step"], state["elapsed_s"], dict(state["scores"])
        self._network = setup.processes.prepare(network)
        taught = [clip for clip in setup.clips if not clip.held_out]
        self._taught = taught or setup.clips
        self._order = Order(len(self._taught), options.seed)
        self._measured = ([clip for clip in setup.clips if clip.held_out] or setup.clips)[: options.evaluate_clips]

    def run(self) -> dict[str, float]:
        """Train to the end and return the scores: the last loss and the losses at fixed noise, before and after."""
        options, setup = self._setup.options, self._setup
        setup.monitor.begin("fine-tuning")
        began = time.monotonic() - self._elapsed_s
        if self.step == 0:
            self._measure("before")
            self._show()
        over = False
        while self.step < options.steps and not over:
            loss = self._one_step()
            self.step += 1
            self._elapsed_s = time.monotonic() - began
            late = options.minutes is not None and self._elapsed_s > options.minutes * 60
            loss, some_late = setup.processes.mean(loss, float(late))
            over = some_late > 0  # all stop at the same step
            self._tell(loss)
            last = over or self.step == options.steps
            if last or self.step % options.evaluate_every == 0:
                self._measure("after")
            if options.sample_every and (last or self.step % options.sample_every == 0):
                self._show()
            if last or self.step % options.checkpoint_every == 0:
                self._save()
        return dict(self._scores) | {"steps": self.step, "minutes": round(self._elapsed_s / 60, 3)}

    def _tell(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DataError(
                f"fine-tuning: expected a finite loss, found {loss} at step {self.step}.",
                "Lower learning_rate; resume from the last checkpoint.",
            )
        self._scores["loss"] = round(loss, 6)
        values = {"loss": loss, "learning_rate": self._rate()}
        self._setup.monitor.record("fine-tuning", self.step, values, self._elapsed_s)
        self._setup.monitor.advance(self.step / self._setup.options.steps, f"step {self.step}, loss {loss:.4f}")

    def _one_step(self) -> float:
        options, processes = self._setup.options, self._setup.processes
        places = range(processes.rank, options.batch, processes.count)
        parts = [places[i : i + options.micro_batch] for i in range(0, len(places), options.micro_batch)]
        torch.manual_seed(_number(options.seed, self.step, processes.rank))  # of dropout
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for number, part in enumerate(parts):
            with processes.alone(self._network, quiet=number + 1 < len(parts)):
                loss = self._loss(part) / len(parts)
                processes.backward(loss)
            total += float(loss.detach())
        processes.clip(self._parameters, options.max_grad_norm)
        self._optimiser.step()
        return total

    def _loss(self, places: range) -> Tensor:
        options = self._setup.options
        rows, noises, uniforms = [], [], []
        for place in places:
            clip = self._taught[self._order.at(self.step * options.batch + place)]
            rng = np.random.default_rng([options.seed, self.step, place])
            # Levels of a batch are spread evenly over 0..1, which makes its loss steadier than free draws would.
            uniforms.append((place + rng.random()) / options.batch)
            rows.append(self._tensors(clip, wordless=rng.random() < options.drop_words))
            noises.append(_noise(rows[-1]["latents"], _number(options.seed, self.step, place)))
        return self._at(self._network, rows, noises, uniforms).mean()

    def _at(self, network: Any, rows: list[dict[str, Tensor]], noises: list[Tensor], uniforms: list[float]) -> Tensor:
        objective, device = self._setup.objective, self._setup.processes.device
        batch = {name: torch.cat([row[name] for row in rows]).to(device) for name in rows[0]}
        level = objective.level(torch.tensor(uniforms, dtype=torch.float32, device=device))
        return objective.loss(network, batch, torch.cat(noises).to(device), level)

    def _tensors(self, clip: Clip, *, wordless: bool = False) -> dict[str, Tensor]:
        cache = self._setup.cache
        return {**cache.read(clip.key()), **cache.read(f"text {'' if wordless else clip.prompt}")}

    def _rate(self) -> float:
        options = self._setup.options
        if self.step < options.warmup_steps:
            return options.learning_rate * (self.step + 1) / options.warmup_steps
        if options.schedule == "constant":
            return options.learning_rate
        along = (self.step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))

    @torch.no_grad()
    def _measure(self, name: str) -> None:
        """Keep the loss of the measured clips at noise levels and noise that are always the same."""
        processes = self._setup.processes
        found = [0.0, 0.0]
        self._plain.eval()
        for number in range(processes.rank, len(self._measured), processes.count):
            row = self._tensors(self._measured[number])
            for k in range(LEVELS):
                noise = _noise(row["latents"], _number(number, k))
                found[0] += float(self._at(self._plain, [row], [noise], [(k + 0.5) / LEVELS]))
                found[1] += 1
        self._plain.train()
        total, count = processes.mean(*found)
        value = total / count
        self._scores[f"measured_{name}"] = round(value, 6)
        self._setup.monitor.record("measured", self.step, {"loss": value}, self._elapsed_s)

    def _show(self) -> None:
        sampler, options = self._setup.sampler, self._setup.options
        if options.sample_every and sampler is not None:
            for number, plan in enumerate(sampler.make(self.step, self._plain)):
                self._setup.monitor.picture(f"samples/{number}", strip(plan), self.step)
        self._setup.processes.wait()

    def _save(self) -> None:
        if self._setup.processes.first:
            save_checkpoint(
                self._setup.output,
                {
                    "identity": self._setup.identity,
                    "step": self.step,
                    "elapsed_s": self._elapsed_s,
                    "scores": self._scores,
                    "network": {name: value.detach().cpu() for name, value in trained(self._plain).items()},
                    "optimiser": self._optimiser.state_dict(),
                },
            )
        self._setup.processes.wait()


def _noise(like: Tensor, seed: int) -> Tensor:
    """Return normal noise drawn on the CPU, so that it is the same on every device."""
    return torch.randn(like.shape, generator=torch.Generator("cpu").manual_seed(seed))


def _number(*parts: int) -> int:
    """Return a seed that follows from all parts."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))
