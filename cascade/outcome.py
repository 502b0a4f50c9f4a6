"""How an episode ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from cascade.contracts.errors import CascadeError, DeviceError
from cascade.contracts.interfaces import EpisodeMonitor
from cascade.contracts.records import GateReport


@dataclass(frozen=True, slots=True)
class End:
    """How a plan, or the episode, ended."""

    outcome: str
    failure_stage: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """How an episode ended.

    Attributes:
        success: the monitor's judgement, None on rigs without one.
        outcome: success, planned (nothing was to move), failed, rejected, error or interrupted.
        failure_stage: planner, readout, extract, gate, motion, timeout, or none.
        verdict: the same in words.
        stage_ms: stage -> milliseconds of each call.
        steps: control steps; plans: plans made.
        moved: whether the arm got a command.
        error: what was raised, for outcome error.
        run_dir: run folder as text, or empty.
    """

    success: bool | None
    outcome: str
    failure_stage: str
    verdict: str
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    plans: int = 0
    moved: bool = False
    error: CascadeError | None = None
    run_dir: str = ""

    @property
    def exit_code(self) -> int:
        """0 done, 4 refused before moving, 5 aborted in motion, 6 failed, 130 stopped; or the error's."""
        if self.outcome == "error":
            error = self.error or CascadeError("")
            return 5 if self.moved and isinstance(error, DeviceError) else error.exit_code
        return {"success": 0, "planned": 0, "rejected": 5 if self.moved else 4, "interrupted": 130}.get(self.outcome, 6)


def judged(monitor: EpisodeMonitor | None, *, steps: int, plans: int) -> End:
    """Say how an episode ended whose last plan was executed."""
    settle = getattr(monitor, "settle", None)
    if callable(settle):  # a simulated world in real time may be behind
        settle()
    if monitor is None:
        return End("success", "none", f"The plan was executed to its end in {steps} steps; nobody judged it.")
    if monitor.success:
        return End("success", "none", f"Done: the goal was reached after {steps} control steps.")
    followed = f"{plans} plan{'s' if plans > 1 else ''}"
    text = f"Not done: the arm followed {followed} to the end in {steps} control steps without reaching the goal."
    return End("failed", "motion", text)


def refusal(subject: str, report: GateReport) -> str:
    """Return why the gate refused, in words."""
    worst = report.violations[0]
    at = f" at step {worst.step}" if worst.step is not None else ""
    numbers = f"{worst.check} {worst.value:.3g} {worst.unit}, limit {worst.limit:.3g} {worst.unit}{at}".replace(
        " ,", ","
    )
    return f"The gate refused the {subject}: {worst.message} ({numbers})"


def aborted(report: GateReport) -> str:
    """Return why a motion was ended under way, in words."""
    worst = report.violations[0]
    numbers = f"{worst.check} {worst.value:.3f} {worst.unit}, limit {worst.limit:.3f} {worst.unit}"
    return f"Stopped in motion: {worst.message.rstrip('.')} ({numbers}). The arm holds."
