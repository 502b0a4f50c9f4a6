"""From measured checks to the stage at fault: what is upstream explains what is downstream, never the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cascade.blame.limits import Limits

SCHEMA_VERSION = 1


class Stage(StrEnum):
    """What can be at fault."""

    NONE = "none"
    CALIBRATION = "calibration"
    GRIPPER = "gripper"
    TRACKING = "tracking"
    EXTRACTION = "extraction"
    GATE = "gate"
    TIMEOUT = "timeout"
    PLAN = "plan"
    DEVICE = "device"
    OPERATOR = "operator"
    UNKNOWN = "unknown"


# A camera that stands elsewhere spoils what is read through it, a dead gripper the path of what it should hold; so each
# stage is asked before those whose figures it can spoil.
ORDER = (Stage.CALIBRATION, Stage.GRIPPER, Stage.TRACKING, Stage.EXTRACTION)

# Without a figure for each of these, a failure is not the plan's by exclusion. A gripper may have had nothing to do.
NEEDED = (Stage.CALIBRATION, Stage.TRACKING, Stage.EXTRACTION)

WORDS: Mapping[Stage, str] = {
    Stage.CALIBRATION: "The camera does not stand where its calibration says",
    Stage.GRIPPER: "The gripper does not do what it is told",
    Stage.TRACKING: "The arm does not follow its targets",
    Stage.EXTRACTION: "The extractor misreads the hand",
    Stage.GATE: "The gate refused the motion",
    Stage.TIMEOUT: "The episode ended before the plan did",
    Stage.PLAN: "The plan itself is wrong: it was read and followed as it should be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        stage: whose fault it would be.
        key: name in `Limits` of its limit, empty for what only informs.
        name: what was measured, in words.
        value: the number, None when it cannot be known; larger is worse.
        limit: the largest that clean runs show; None for what only informs.
        unit: of both.
        why: what is in the way of a number, or what the number means.
        detail: more numbers behind it; JSON values.
    """

    stage: Stage
    key: str = ""
    name: str
    value: float | None
    limit: float | None
    unit: str
    why: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the value lies above its limit."""
        return self.value is not None and self.limit is not None and self.value > self.limit

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "stage": self.stage.value,
            "key": self.key,
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "margin": None if self.value is None or self.limit is None else self.limit - self.value,
            "unit": self.unit,
            "failed": self.failed,
            "why": self.why,
            "detail": dict(self.detail),
        }


# Whose fault a value above its limit is, and its unit; the names are those of `Limits`.
MEASURES: Mapping[str, tuple[Stage, str]] = {
    "reprojection_px": (Stage.CALIBRATION, "px"),
    "gripper": (Stage.GRIPPER, "of 1"),
    "tracking_m": (Stage.TRACKING, "m"),
    "delay_s": (Stage.TRACKING, "s"),
    "extraction_m": (Stage.EXTRACTION, "m"),
    "extraction_share": (Stage.EXTRACTION, "of 1"),
    "extraction_path_m": (Stage.EXTRACTION, "m"),
    "start_m": (Stage.EXTRACTION, "m"),
}


def weighed(key: str, name: str, value: float | None, limits: Limits, why: str = "", **detail: Any) -> Check:
    """Return the check of one measure against its limit; arguments as in `Check`."""
    stage, unit = MEASURES[key]
    limit = float(getattr(limits, key))
    return Check(stage=stage, key=key, name=name, value=value, limit=limit, unit=unit, why=why, detail=detail)


def without_single_frames(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, with that of the plan's first frame only told where a whole film was read.

    One frame in which the hand is outside the picture, or hidden, is misread by centimetres and harms nobody.
    """
    filmed = any(check.key == "extraction_m" and check.value is not None for check in checks)
    return [replace(check, limit=None) if filmed and check.key == "start_m" else check for check in checks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """The verdict on one run.

    Attributes:
        stage: at fault; NONE for a run that succeeded or was only planned.
        verdict: one sentence for people.
        checks: everything that was looked at, in the order in which it was weighed.
        suspects: stages with a failed check besides the one named.
        paths: what each reader sees in the plan, name -> (P, 3) list of positions [m]; for the report.
        spread_m: (T,) one standard deviation of the reading per plan frame, or empty.
        missing: what -> why it could not be looked at.
    """

    stage: Stage
    verdict: str
    checks: tuple[Check, ...] = ()
    suspects: tuple[Stage, ...] = ()
    plan: int = 0
    paths: Mapping[str, list[list[float]]] = field(default_factory=dict)
    spread_m: tuple[float, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage.value,
            "verdict": self.verdict,
            "suspects": [stage.value for stage in self.suspects],
            "plan": self.plan,
            "checks": [check.as_json() for check in self.checks],
            "paths": dict(self.paths),
            "spread_m": list(self.spread_m),
            "missing": dict(self.missing),
        }


def decide(facts: Mapping[str, Any], checks: Sequence[Check], limits: Limits) -> tuple[Stage, str, tuple[Stage, ...]]:
    """Return (stage at fault, sentence, other stages with a failed check).

    Args:
        facts: contents of run.json.
        checks: what was measured.
        limits: for the order in which much-exceeded limits outweigh little-exceeded ones.
    """
    failed = [stage for stage in ORDER if any(c.failed and c.stage is stage for c in checks)]
    outcome = str(facts.get("outcome") or "")
    settled = _without_fault(facts, outcome)
    if settled is not None:
        stage, sentence = settled
        return stage, sentence, tuple(failed)
    if failed:
        stage = failed[0]
        worst = max((c for c in checks if c.failed and c.stage is stage), key=_excess)
        return stage, f"{WORDS[stage]}: {told(worst)}.", tuple(s for s in failed if s is not stage)
    if outcome == "rejected":
        return _of_refusal(str(facts.get("verdict") or ""))
    if not any(c.value is not None for c in checks if c.stage in ORDER):
        return Stage.UNKNOWN, "Nothing could be measured in this run, so no stage is named.", ()
    if facts.get("failure_stage") == "timeout":
        return Stage.TIMEOUT, f"{WORDS[Stage.TIMEOUT]}; nothing else is out of the ordinary.", ()
    unseen = [stage for stage in ORDER if stage in NEEDED and not _seen(stage, checks)]
    if unseen:
        left = " or ".join(stage.value for stage in (Stage.PLAN, *unseen))
        said = f"What could be measured is in order. At fault is {left}; the evidence says why it cannot be told which."
        return Stage.UNKNOWN, said, ()
    return Stage.PLAN, f"{WORDS[Stage.PLAN]}, and the task was not done.", ()


def _seen(stage: Stage, checks: Sequence[Check]) -> bool:
    return any(c.stage is stage and c.value is not None and c.limit is not None for c in checks)


def _without_fault(facts: Mapping[str, Any], outcome: str) -> tuple[Stage, str] | None:
    """Outcomes that say themselves who ended the run."""
    if facts.get("status") != "done":
        return Stage.UNKNOWN, "The run did not finish: it is still going, or it was killed."
    if outcome == "success":
        return Stage.NONE, "The task was done; no stage is at fault."
    if outcome == "planned":
        return Stage.NONE, "Nothing was to move; no stage is at fault."
    if outcome == "interrupted":
        return Stage.OPERATOR, "A person stopped the run."
    if outcome == "error":
        stage = {"planner": Stage.PLAN, "readout": Stage.EXTRACTION, "extract": Stage.EXTRACTION, "gate": Stage.GATE}
        found = stage.get(str(facts.get("failure_stage")), Stage.DEVICE)
        return found, f"An error ended the run. {facts.get('verdict') or ''}".strip()
    return None


def _of_refusal(said: str) -> tuple[Stage, str, tuple[Stage, ...]]:
    """A refusal with nothing else wrong: of a video it is the plan's fault, of a chunk nobody's but the gate knows."""
    if "refused the plan" in said:
        return Stage.PLAN, f"The plan's video does not hold: {said}", ()
    return Stage.GATE, f"{WORDS[Stage.GATE]}, and nothing else is out of the ordinary. {said}".strip(), ()


def _excess(check: Check) -> float:
    return (check.value or 0.0) / max(check.limit or 0.0, 1e-9)


def told(check: Check) -> str:
    """Return a check as words with its numbers."""
    if check.value is None:
        return f"{check.name}: not known ({check.why})"
    limit = "" if check.limit is None else f", at most {quantity(check.limit, check.unit)} in clean runs"
    return f"{check.name} {quantity(check.value, check.unit)}{limit}"


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit as people read it: metres in mm, shares in percent."""
    if unit == "of 1":
        return f"{value:.0%}"
    if unit == "m":
        return "under 0.01 mm" if 0 < value < 1e-5 else f"{value * 1000:.3g} mm"
    return f"{value:.3g} {unit}".strip()
