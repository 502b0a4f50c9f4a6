"""Entry points: the planner 'policy' and the trainer 'policy'."""

from __future__ import annotations

from cascade.contracts import Planner, PluginSpec, Trainer
from planner.policies.options import PolicyConfig, PolicyTrainerConfig


def _policy(config: PolicyConfig) -> Planner:
    from planner.policies.policy_planner import PolicyPlanner

    return PolicyPlanner(config)


def _trainer(config: PolicyTrainerConfig) -> Trainer:
    from planner.policies.trainer import PolicyTrainer

    return PolicyTrainer(config)


POLICY: PluginSpec[Planner] = PluginSpec(
    "a small policy that says its own motion: bc, cotrained or joint (for comparison)", PolicyConfig, _policy
)
TRAINER: PluginSpec[Trainer] = PluginSpec("trains a small policy from demonstrations", PolicyTrainerConfig, _trainer)
