"""Entry points: the extractor 'idm' and the trainer 'idm'."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.contracts import PluginSpec
from idm.options import ExtractorConfig, TrainerConfig

if TYPE_CHECKING:
    from idm.extractor import InverseDynamicsExtractor
    from idm.training import InverseDynamicsTrainer


def build_extractor(config: ExtractorConfig) -> InverseDynamicsExtractor:
    """Load the weights and return the extractor, which reads plans too.

    Raises:
        WeightsError: the weights are missing or corrupt.
        IncompatibleError: they were trained for other actions.
    """
    from idm.extractor import InverseDynamicsExtractor
    from idm.waypoints import WaypointRules

    rules = WaypointRules(**{f.name: getattr(config, f.name) for f in fields(WaypointRules) if hasattr(config, f.name)})
    if config.fuse == "latents":
        return InverseDynamicsExtractor(None, rules=rules, how="latents", steps=config.steps, cameras=None)
    from idm.reading import PlanFrameReader
    from idm.shipped import ShippedReader
    from idm.weights import load_network, shipped_weights, weights_digest

    def load(folder: Path) -> PlanFrameReader:
        return PlanFrameReader(
            load_network(folder).to(config.device),
            device=config.device,
            bf16=config.bf16,
            threads=config.threads,
            bias_frames=config.bias_frames,
            weights=weights_digest(folder),
        )

    reader: PlanFrameReader | ShippedReader
    reader = load(config.weights) if config.weights is not None else ShippedReader(shipped_weights(), load)
    return InverseDynamicsExtractor(reader, rules=rules, how=config.fuse, steps=config.steps, cameras=reader.cameras)


def build_trainer(config: TrainerConfig) -> InverseDynamicsTrainer:
    """Return the trainer; nothing is read before `train`."""
    from idm.training import InverseDynamicsTrainer

    return InverseDynamicsTrainer(config)


IDM: PluginSpec[InverseDynamicsExtractor] = PluginSpec(
    "Learned inverse dynamics: reads the hand in every plan frame and follows it.", ExtractorConfig, build_extractor
)
TRAINER: PluginSpec[InverseDynamicsTrainer] = PluginSpec(
    "Inverse dynamics on task-agnostic play: pose head, pair head, calibrated spread.", TrainerConfig, build_trainer
)
