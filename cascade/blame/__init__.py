"""Blame: which stage of a run is at fault, and the evidence for it."""

from cascade.blame.investigate import blame, stored_blame
from cascade.blame.verdict import Blame, Check, Stage

__all__ = ["Blame", "Check", "Stage", "blame", "stored_blame"]
