"""What a training run tells: a progress bar on stderr, a JSONL file, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class TrainingMonitor:
    """Context manager around a run's output."""

    def __init__(self, folder: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            refresh_per_second=1,
        )
        self._task: Any = None
        self._board: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def begin(self, name: str) -> None:
        """Start the bar of a new stage."""
        if self._task is not None:
            self._progress.update(self._task, completed=1.0)
        self._task = self._progress.add_task(name, total=1.0, note="")

    def advance(self, share: float, note: str = "") -> None:
        """Set the bar of the stage to `share` (0..1)."""
        if self._task is not None:
            self._progress.update(self._task, completed=share, note=note)

    def record(self, stage: str, step: int, values: Mapping[str, float], elapsed_s: float) -> None:
        """Keep measured values."""
        row = {"stage": stage, "step": step, "minutes": round(elapsed_s / 60, 3)}
        row.update({k: round(float(v), 6) for k, v in values.items()})
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{stage}/{name}", float(value), step)
