"""A latency budget: which steps, frames, samples and chunk length fit into it on this machine, by measured times.

A recipe's own numbers are what is wanted, a budget never adds to them. The planner is timed at its fewest steps, at the
wanted ones, and with two samples; everything between is interpolated, the best that fits is chosen, and then measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from cascade.config import RunConfig
from cascade.contracts.errors import ConfigError
from cascade.contracts.records import ActionChunk

REPEATS = 3  # timed calls per setting, after one that warms up; the middle one counts
LEAST_FRAMES_SHARE = 0.25
FRAME_STEP = 4  # where a planner does not say what its frame counts are one more than a multiple of
_UNITS = {"ms": 1.0, "s": 1e3, "min": 6e4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a plan costs time by; None where the planner has no such option."""

    steps: int | None
    samples: int
    frames: int | None

    def words(self) -> str:
        """For people."""
        parts = [(self.steps, "step"), (self.samples, "sample"), (self.frames, "frame")]
        return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in parts if count is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds of one setting: `plan_ms` imagining, `read_ms` decoding, reading and choosing, of all samples."""

    plan_ms: float
    read_ms: float
    chunk: ActionChunk | None = None

    @property
    def total_ms(self) -> float:
        """From a picture to targets."""
        return self.plan_ms + self.read_ms


Measure = Callable[[Setting], Timing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What was chosen.

    Attributes:
        budget_ms: what was allowed; measured_ms: what the chosen setting took.
        receding_targets: targets to visit before the next plan, at least as many as the arm passes meanwhile.
        rows: every setting that was timed, with its milliseconds, as JSON values.
    """

    budget_ms: float
    setting: Setting
    predicted_ms: float
    measured_ms: float
    receding_targets: int
    rows: tuple[Mapping[str, Any], ...] = field(default=())

    def values(self) -> dict[str, Any]:
        """As JSON values, for budget.json."""
        return {
            "schema_version": 1,
            "budget_ms": self.budget_ms,
            "chosen": {
                "steps": self.setting.steps,
                "samples": self.setting.samples,
                "frames": self.setting.frames,
                "receding_targets": self.receding_targets,
            },
            "predicted_ms": round(self.predicted_ms, 2),
            "measured_ms": round(self.measured_ms, 2),
            "timed": [dict(row) for row in self.rows],
        }


def parse_budget(text: str) -> float:
    """Return milliseconds of a text such as `500ms`, `0.5s` or `2min`.

    Raises:
        ConfigError: anything else.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|min)\s*", text)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        raise ConfigError(f"--budget {text!r}: expected a time above 0 with its unit.", "For example 500ms or 0.5s.")
    return value


def wanted_setting(run: RunConfig, options: Mapping[str, Any], known: Mapping[str, Any]) -> Setting:
    """Return what a recipe asks for.

    Args:
        run: whose recipe it is.
        options: resolved options of its planner, without those that may not be changed.
        known: provenance of a plan, for planners whose steps and frames are a default of their weights.
    """
    steps, frames = (options.get(name) or known.get(name) for name in ("steps", "num_frames"))
    return Setting(
        steps=int(steps or 1) if "steps" in options else None,
        samples=run.recipe.sampling.samples,
        frames=int(frames) if "num_frames" in options and frames else None,
    )


def settings_below(wanted: Setting, frame_step: int = FRAME_STEP) -> list[Setting]:
    """Return every setting up to the wanted one, the most wanted first; frame counts are `frame_step` k + 1.

    Frames go last, since a plan of fewer frames shows less; then what counts is steps x samples, and of equals the more
    samples. Several samples need two steps or more: in one step a planner knows one future.
    """
    steps = [None] if wanted.steps is None else _halves(wanted.steps, 1)
    frames = [None] if wanted.frames is None else _frame_counts(wanted.frames, frame_step)
    found = [
        Setting(steps=s, samples=n, frames=f)
        for f in frames
        for s in steps
        for n in range(1, wanted.samples + 1)
        if n == 1 or s is None or s >= min(2, wanted.steps or 2)
    ]
    return sorted(found, key=lambda x: (-(x.frames or 0), -(x.steps or 1) * x.samples, -x.samples))


def _halves(most: int, least: int) -> list[int]:
    """`most` and its halvings down to `least`."""
    counts = [most]
    while counts[-1] > least:
        counts.append(max(least, counts[-1] // 2))
    return counts


def _frame_counts(most: int, step: int) -> list[int]:
    """`most`, and smaller counts of the form step k + 1, which video models with a compressing autoencoder take."""
    counts = [most]
    for share in (0.75, 0.5, LEAST_FRAMES_SHARE):
        count = step * round(share * (most - 1) / step) + 1
        if step < count < counts[-1]:
            counts.append(count)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Times of settings that were not measured: (fixed + steps) x samples x frames for the plan, and reading.

    Attributes:
        fixed_ms, step_ms: of one sample with all frames.
        sample_share: what one more sample adds, as a share of the first (below 1: a batch pays).
        read_ms: of one sample.
        frames: of the measured settings.
    """

    fixed_ms: float
    step_ms: float
    sample_share: float
    read_ms: float
    read_share: float
    frames: int | None

    def total_ms(self, setting: Setting) -> float:
        """Predicted time from a picture to targets."""
        plan = self.fixed_ms + self.step_ms * (setting.steps or 1)
        more = setting.samples - 1
        length = setting.frames / self.frames if setting.frames and self.frames else 1.0
        return plan * (1 + self.sample_share * more) * length + self.read_ms * (1 + self.read_share * more)


def fit(
    budget_ms: float, wanted: Setting, measure: Measure, *, least_targets: int = 1, frame_step: int = FRAME_STEP
) -> Fit:
    """Return the best setting within a budget.

    Args:
        budget_ms: from a picture to targets.
        wanted: what the recipe asks for, never exceeded.
        measure: times one setting.
        least_targets: of the recipe.
        frame_step: legal frame counts of the planner are `frame_step` k + 1.

    Raises:
        ConfigError: not even the least possible fits; the message says what that takes.
    """
    timed: dict[Setting, Timing] = {}

    def time(setting: Setting) -> Timing:
        if setting not in timed:
            timed[setting] = measure(setting)
        return timed[setting]

    options = settings_below(wanted, frame_step)
    model = _model(wanted, time)
    for setting in options:
        predicted = model.total_ms(setting)
        if predicted > budget_ms:
            continue
        timing = time(setting)
        if timing.total_ms <= budget_ms:
            return Fit(
                budget_ms=budget_ms,
                setting=setting,
                predicted_ms=predicted,
                measured_ms=timing.total_ms,
                receding_targets=max(least_targets, _passed(timing)),
                rows=tuple(_row(s, t) for s, t in timed.items()),
            )
    least = min(options, key=model.total_ms)
    timing = time(least)
    raise ConfigError(
        f"--budget {budget_ms:g} ms: expected plans within it, found that the least possible here takes "
        f"{timing.total_ms:.0f} ms ({least.words()}: {timing.plan_ms:.0f} ms imagining, {timing.read_ms:.0f} ms "
        "decoding and reading).",
        f"Allow {math.ceil(timing.total_ms * 1.1)} ms or more, or use a faster planner, extractor or machine.",
    )


def _model(wanted: Setting, time: Callable[[Setting], Timing]) -> Model:
    """Time the corners, and interpolate between."""
    few = replace(wanted, steps=None if wanted.steps is None else 1, samples=1)
    first = time(few)
    step_ms, fixed_ms, many = 0.0, first.plan_ms, first
    if wanted.steps is not None and wanted.steps > 1:
        many = time(replace(wanted, samples=1))
        step_ms = max(0.0, (many.plan_ms - first.plan_ms) / (wanted.steps - 1))
        fixed_ms = first.plan_ms - step_ms
    share, read_share = 1.0, 1.0
    if wanted.samples > 1:
        two = time(replace(wanted, samples=2))
        share = max(0.0, two.plan_ms / many.plan_ms - 1) if many.plan_ms > 0 else 1.0
        read_share = max(0.0, two.read_ms / many.read_ms - 1) if many.read_ms > 0 else 1.0
    return Model(
        fixed_ms=fixed_ms,
        step_ms=step_ms,
        sample_share=share,
        read_ms=many.read_ms,
        read_share=read_share,
        frames=wanted.frames,
    )


def _passed(timing: Timing) -> int:
    """Targets that the arm passes while the next plan is made, at most the whole chunk."""
    chunk = timing.chunk
    if chunk is None or not len(chunk) or chunk.times_s[-1] <= 0:
        return 1
    rate_hz = len(chunk) / float(chunk.times_s[-1])
    return max(1, min(len(chunk), math.ceil(timing.total_ms / 1e3 * rate_hz)))


def _row(setting: Setting, timing: Timing) -> dict[str, Any]:
    return {
        "steps": setting.steps,
        "samples": setting.samples,
        "frames": setting.frames,
        "plan_ms": round(timing.plan_ms, 2),
        "read_ms": round(timing.read_ms, 2),
    }


def applied(run: RunConfig, found: Fit) -> RunConfig:
    """Return a run with what was chosen."""
    recipe, setting = run.recipe, found.setting
    options = dict(recipe.planner.options)
    options |= {} if setting.steps is None else {"steps": setting.steps}
    options |= {} if setting.frames is None else {"num_frames": setting.frames}
    planner = recipe.planner.model_copy(update={"options": options})
    sampling = recipe.sampling.model_copy(update={"samples": setting.samples})
    execution = recipe.execution.model_copy(update={"receding_targets": found.receding_targets})
    changed = recipe.model_copy(update={"planner": planner, "sampling": sampling, "execution": execution})
    return run.model_copy(update={"recipe": changed})


@contextmanager
def clocked(into: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of a block [ms]."""
    began = perf_counter()
    yield
    into[name] = into.get(name, 0.0) + (perf_counter() - began) * 1e3
