"""Entry point: the trainer 'value'."""

from __future__ import annotations

from cascade.contracts import PluginSpec, Trainer
from cascade.value.options import ValueTrainerConfig


def _trainer(options: ValueTrainerConfig) -> Trainer:
    from cascade.value.training import ValueTrainer

    return ValueTrainer(options)


TRAINER: PluginSpec[Trainer] = PluginSpec(
    "learns from demonstrations how far along a task is, for the scorer 'value'", ValueTrainerConfig, _trainer
)
