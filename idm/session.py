"""What trainings of this package share: state, schedule, running average, checkpoints, progress."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from cascade.contracts import WeightsError

CHECKPOINT = "checkpoint.safetensors"
WARM_UP = 0.02  # share of the time in which the learning rate rises

Net = TypeVar("Net", bound=torch.nn.Module)


@dataclass(slots=True)
class TrainingState(Generic[Net]):
    """Everything a checkpoint holds; `net` is the network as it is trained, `average` what will be saved."""

    net: Net
    average: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    step: int = 0
    spent_s: float = 0.0
    frames_seen: int = 0

    def share(self, budget_s: float, steps: int | None) -> float:
        """Share of the training done: of the steps where they are counted, else of the time."""
        return self.spent_s / budget_s if steps is None else self.step / steps


def fresh_state(net: Net, learning_rate: float) -> TrainingState[Net]:
    """Return the state before the first step; matrices are decayed, biases and norms are not."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    return TrainingState(net, average, optimiser)


def schedule(share: float) -> float:
    """Learning-rate factor at a share of the time: linear warm-up, then cosine to 1 %."""
    if share < WARM_UP:
        return max(share / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((share - WARM_UP) / (1 - WARM_UP), 1.0)))


@torch.no_grad()
def move_average(state: TrainingState[Net], decay: float) -> None:
    """Move the running average of the weights a step towards them; faster in the beginning."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    current = state.net.state_dict()
    names = list(state.average)
    torch._foreach_lerp_([state.average[n] for n in names], [current[n] for n in names], 1 - decay)


def save_checkpoint(state: TrainingState[Net], path: Path) -> None:
    """Write weights, their average and the optimiser's moments; the old file stays until the new one is complete."""
    from safetensors.torch import save_file

    tensors = {f"net.{k}": v.cpu().contiguous() for k, v in state.net.state_dict().items()}
    tensors |= {f"average.{k}": v.cpu().contiguous() for k, v in state.average.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v.cpu().contiguous() for k, v in moments.items()}
    facts = {"step": state.step, "spent_s": state.spent_s, "frames_seen": state.frames_seen}
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial), metadata={"idm": json.dumps(facts)})
    partial.replace(path)


def restore_checkpoint(state: TrainingState[Net], path: Path) -> None:
    """Set `state` to what `save_checkpoint` wrote.

    Raises:
        WeightsError: the file is broken or of another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})["idm"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: expected a checkpoint of this network, found another file ({error}).",
            "Delete it, or train without --resume.",
        ) from error
    for name in state.average:
        state.average[name].copy_(tensors[f"average.{name}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value
    state.optimiser.load_state_dict({**state.optimiser.state_dict(), "state": moments})
    state.step, state.spent_s, state.frames_seen = facts["step"], facts["spent_s"], facts["frames_seen"]


@contextmanager
def board(output: Path) -> Iterator[Any]:
    """Yield a function that logs scalars, to TensorBoard where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda values, step: None
        return
    writer = SummaryWriter(str(output / "tensorboard"))

    def log(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(f"idm/{name}", value, step)

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def bar(budget_s: float, spent_s: float) -> Iterator[Any]:
    """Yield a function that shows progress on stderr: a bar for people, a line every half minute for logs."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("idm"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("idm", total=budget_s, completed=int(spent_s), note="")
        said = -1e9

        def show(now_s: float, values: Mapping[str, float]) -> None:
            nonlocal said
            note = "  ".join(f"{k} {v:.3g}" for k, v in values.items())
            progress.update(task, completed=now_s, note=note)
            if not console.is_terminal and now_s - said > 30:
                said = now_s
                console.print(f"idm {now_s / 60:.1f}/{budget_s / 60:.1f} min  {note}", highlight=False)

        yield show
