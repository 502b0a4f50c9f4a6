"""Frozen records that travel between the stages; validated when made, arrays read-only."""

from __future__ import annotations

from cascade.contracts.action import ActionChunk, ActionSpace, SpaceKind
from cascade.contracts.episode import Episode
from cascade.contracts.judgement import GateReport, Verdict, Violation
from cascade.contracts.limits import ArmSpec, JointLimits, Limits
from cascade.contracts.observation import ArmMode, ArmState, CameraImage, Fault, Observation
from cascade.contracts.plan import EeReadout, ImageTransform, PlanLatents, VideoPlan

__all__ = [
    "ActionChunk",
    "ActionSpace",
    "ArmMode",
    "ArmSpec",
    "ArmState",
    "CameraImage",
    "EeReadout",
    "Episode",
    "Fault",
    "GateReport",
    "ImageTransform",
    "JointLimits",
    "Limits",
    "Observation",
    "PlanLatents",
    "SpaceKind",
    "Verdict",
    "VideoPlan",
    "Violation",
]
