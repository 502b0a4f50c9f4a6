"""Entry point: the extractor 'arbiter'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.arbiter.options import ArbiterConfig
from cascade.contracts.plugin import PluginSpec

if TYPE_CHECKING:
    from cascade.arbiter.extractor import Arbiter


def _build(config: ArbiterConfig) -> Arbiter:
    from cascade.arbiter.extractor import Arbiter
    from cascade.plugins import build_plugin

    hand = build_plugin("extractor", config.hand.name, config.hand.options)
    thing = build_plugin("extractor", config.object.name, config.object.options)
    return Arbiter(hand, thing, config)


ARBITER: PluginSpec[Arbiter] = PluginSpec(
    "Inverse dynamics, object motion, or both by their agreement.", ArbiterConfig, _build
)
