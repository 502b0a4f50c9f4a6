"""Entry points of this package. Heavy libraries are imported when a stage is built, not here."""

from __future__ import annotations

from typing import Any

from cascade.contracts import ActionExtractor, PluginSpec
from flowact.settings import FlowConfig


def _flow(config: Any) -> ActionExtractor:
    from flowact.extractor import FlowExtractor

    return FlowExtractor(config)


FLOW: PluginSpec[ActionExtractor] = PluginSpec(
    summary="Object motion by optical flow and depth, then push or grasp (geometric, after AVDC).",
    config=FlowConfig,
    build=_flow,
)
