"""What fine-tuning tells: the monitor of all trainings, and pictures; nothing from all processes but the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from planner.training.monitor import TrainingMonitor


class Monitor(Protocol):
    """What a session tells."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...

    def begin(self, name: str) -> None:
        """Start the bar of a new stage."""
        ...

    def advance(self, share: float, note: str = "") -> None:
        """Set the bar of the stage to `share` (0..1)."""
        ...

    def record(self, stage: str, step: int, values: Mapping[str, float], elapsed_s: float) -> None:
        """Keep measured values."""
        ...

    def picture(self, name: str, pixels: Any, step: int) -> None:
        """Keep a picture (H, W, 3) uint8."""
        ...


class LoudMonitor(TrainingMonitor):
    """Progress bar, metrics.jsonl and TensorBoard."""

    def picture(self, name: str, pixels: Any, step: int) -> None:
        """Keep a picture (H, W, 3) uint8 in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")


class SilentMonitor:
    """Of the other processes."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    def begin(self, name: str) -> None:
        """Do nothing."""

    def advance(self, share: float, note: str = "") -> None:
        """Do nothing."""

    def record(self, stage: str, step: int, values: Mapping[str, float], elapsed_s: float) -> None:
        """Do nothing."""

    def picture(self, name: str, pixels: Any, step: int) -> None:
        """Do nothing."""


def open_monitor(folder: Path, *, loud: bool) -> Monitor:
    """Return the monitor of a process."""
    return LoudMonitor(folder) if loud else SilentMonitor()
