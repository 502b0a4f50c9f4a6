"""Entry points: the extractor 'idm', the trainers 'idm' and 'idm-latents'."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts import ConfigError, IncompatibleError, PluginSpec
from idm.options import ExtractorConfig, LatentTrainerConfig, TrainerConfig

if TYPE_CHECKING:
    from idm.extractor import InverseDynamicsExtractor
    from idm.latent_training import LatentTrainer
    from idm.training import InverseDynamicsTrainer
    from idm.waypoints import WaypointRules


def build_extractor(config: ExtractorConfig) -> InverseDynamicsExtractor:
    """Load the weights and return the extractor, which reads plans too.

    Raises:
        WeightsError: the weights are missing or corrupt.
        IncompatibleError: they were trained for other actions, or cannot do what the options ask for.
        ConfigError: the options contradict each other.
    """
    from idm.extractor import InverseDynamicsExtractor
    from idm.waypoints import WaypointRules

    rules = WaypointRules(**{f.name: getattr(config, f.name) for f in fields(WaypointRules) if hasattr(config, f.name)})
    if config.closed_loop and config.fuse == "latents":
        raise ConfigError(
            "extractor idm: closed_loop reads the pixels of a plan, and fuse: latents reads none.",
            "Set fuse: pixels or fuse: variance, or leave closed_loop out.",
        )
    if config.fuse == "latents":
        return InverseDynamicsExtractor(
            None, rules=rules, how="latents", steps=config.steps, cameras=None, **_anchor(config)
        )
    from idm.reading import PlanFrameReader
    from idm.shipped import ShippedReader
    from idm.weights import latent_weights, load_network, reads_latents, shipped_weights, weights_digest

    if config.weights is not None and reads_latents(latent_weights(config.weights)):
        if config.closed_loop:
            raise IncompatibleError(
                "extractor idm: expected weights that read frames (closed_loop), found some that read latents.",
                "Name weights for frames, or leave closed_loop out.",
            )
        return _latent_extractor(config, latent_weights(config.weights), rules)

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
    return InverseDynamicsExtractor(
        reader,
        rules=rules,
        how=config.fuse,
        steps=config.steps,
        cameras=reader.cameras,
        goals=reader if config.closed_loop else None,
        **_anchor(config),
    )


def _latent_extractor(config: ExtractorConfig, folder: Path, rules: WaypointRules) -> InverseDynamicsExtractor:
    """Return the extractor around weights that read latents: nothing else of the plan is read, or asked for."""
    from idm.extractor import InverseDynamicsExtractor
    from idm.latent_reading import LatentReader
    from idm.weights import load_latent_network, weights_digest

    net: Any = load_latent_network(folder)
    reader = LatentReader(net.to(config.device), threads=config.threads, weights=weights_digest(folder))
    return InverseDynamicsExtractor(
        reader,
        rules=rules,
        how="pixels",  # that is: the reader's own word, not the planner's
        steps=config.steps,
        cameras=reader.cameras,
        latent_space=reader.latent_space,
        **_anchor(config),
    )


def _anchor(config: ExtractorConfig) -> dict[str, Any]:
    return {
        "anchor": None if config.anchor == "none" else config.anchor,
        "segment": config.segment,
        "regrasp": config.regrasp,
    }


def build_latent_trainer(config: LatentTrainerConfig) -> LatentTrainer:
    """Return the trainer; nothing is read before `train`."""
    from idm.latent_training import LatentTrainer

    return LatentTrainer(config)


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
LATENT_TRAINER: PluginSpec[LatentTrainer] = PluginSpec(
    "Inverse dynamics on a planner's latents or features: its plans, labelled by demonstrations.",
    LatentTrainerConfig,
    build_latent_trainer,
)
