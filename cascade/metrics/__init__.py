"""Scores of plans and runs: 21 metrics on three axes, and whether plan and motion agree.

Every score refuses what hardly moves: a frozen video would be perfect. Numpy, SciPy and OpenCV only.
"""

from cascade.metrics.agreement import Agreement, agreement, consensus, event_f1, paired
from cascade.metrics.evidence import Evidence, IkSolutions
from cascade.metrics.registry import METRICS, measure_all, metric
from cascade.metrics.result import Axis, Metric, Result, Status
from cascade.metrics.swap import SwapEffect, not_applicable, swap_effect
from cascade.metrics.tube import Split, Tube, tube_error

__all__ = [
    "METRICS",
    "Agreement",
    "Axis",
    "Evidence",
    "IkSolutions",
    "Metric",
    "Result",
    "Split",
    "Status",
    "SwapEffect",
    "Tube",
    "agreement",
    "consensus",
    "event_f1",
    "measure_all",
    "metric",
    "not_applicable",
    "paired",
    "swap_effect",
    "tube_error",
]
