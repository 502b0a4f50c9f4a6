"""What cascade finds here: planners `embedded`, `diffusers`, `file`, `hold` and the trainer `planner`."""

from __future__ import annotations

from pathlib import Path

from cascade.contracts import Planner, PluginSpec, Trainer
from cascade.contracts.errors import ConfigError
from planner.diffusers_planner.options import DiffusersConfig
from planner.finetuning.options import FinetuneConfig
from planner.options import EmbeddedConfig, FileConfig, HoldConfig, TrainerConfig
from planner.remote.options import RemoteConfig


def _hold(options: HoldConfig) -> Planner:
    from planner.hold import HoldPlanner

    return HoldPlanner(camera=options.camera, size_px=options.size_px, frames=options.frames)


def _file(options: FileConfig) -> Planner:
    from planner.file_planner import FilePlanner

    if options.path is None:
        raise ConfigError("planner 'file': expected the option `path`, found none.", "Give a video, plan or folder.")
    return FilePlanner(
        path=options.path,
        camera=options.camera,
        size_px=options.size_px,
        frames=options.frames,
        start_frame=options.start_frame,
        frame_count=options.frame_count,
    )


def _embedded(options: EmbeddedConfig) -> Planner:
    from planner.embedded import EmbeddedPlanner
    from planner.latents import Handover
    from planner.shipped import WIDE, ShippedPlanner, shipped_folder

    def load(folder: Path | None) -> EmbeddedPlanner:
        return EmbeddedPlanner.load(
            folder,
            camera=options.camera,
            steps=options.steps,
            readout=options.readout,
            threads=options.threads,
            device=options.device,
            dtype=options.dtype,
            handover=Handover(stop_at=options.stop_at, tap=options.tap),
            stride=options.stride,
        )

    if options.weights is not None:
        return load(shipped_folder(options.weights))
    return ShippedPlanner(load, options.camera) if WIDE.is_dir() else load(None)


def _diffusers(options: DiffusersConfig) -> Planner:
    from planner.diffusers_planner.latent_planner import load_planner

    return load_planner(options)


def _trainer(options: TrainerConfig) -> Trainer:
    from planner.training.trainer import PlannerTrainer

    return PlannerTrainer(options)


HOLD: PluginSpec[Planner] = PluginSpec("imagines that nothing moves (a control)", HoldConfig, _hold)
FILE: PluginSpec[Planner] = PluginSpec("reads the plan from a video, a saved plan or a run folder", FileConfig, _file)
EMBEDDED: PluginSpec[Planner] = PluginSpec("small latent video model, weights included", EmbeddedConfig, _embedded)
DIFFUSERS: PluginSpec[Planner] = PluginSpec(
    "image-to-video pipeline of diffusers: Wan, LTX, CogVideoX, Cosmos, HunyuanVideo", DiffusersConfig, _diffusers
)
TRAINER: PluginSpec[Trainer] = PluginSpec("trains the embedded planner from recorded episodes", TrainerConfig, _trainer)


def _remote(config: RemoteConfig) -> Planner:
    from planner.remote.planner import RemotePlanner

    return RemotePlanner(config)


REMOTE: PluginSpec[Planner] = PluginSpec("A planner or policy on another machine", RemoteConfig, _remote)


def _finetune(options: FinetuneConfig) -> Trainer:
    from planner.finetuning.trainer import DiffusersTrainer

    return DiffusersTrainer(options)


FINETUNE: PluginSpec[Trainer] = PluginSpec(
    "fine-tunes an image-to-video pipeline of diffusers from recorded episodes", FinetuneConfig, _finetune
)
