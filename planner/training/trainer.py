"""`cascade train planner`: from recorded episodes to a folder of weights."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cascade.contracts import EpisodeSource
from cascade.contracts.errors import ConfigError
from planner.compute import choose_device
from planner.networks.autoencoder import FrameAutoencoder
from planner.networks.readout import LatentReadout
from planner.networks.unet import PlanUNet
from planner.storage import packed, unpacked
from planner.strides import WHOLE
from planner.training.autoencoder_stage import AutoencoderStage
from planner.training.card import model_card
from planner.training.checkpoint import generator_state, load_checkpoint, restore_generator, save_checkpoint
from planner.training.context import TrainingContext
from planner.training.data import HeldOut, WindowSampler, load_tracks
from planner.training.hands import load_hands
from planner.training.latents import LatentCache, measure_scales
from planner.training.looks import Looks, load_looks
from planner.training.loop import Stage, StageRunner
from planner.training.monitor import TrainingMonitor
from planner.training.plan_batches import PlanBatches
from planner.training.plan_stage import PlanStage
from planner.training.readout_stage import ReadoutStage
from planner.training.sketch_stage import SketchStage
from planner.training.words import WordBank
from planner.weights import PlannerWeights, Scales, Settings, load_weights, save_weights

if TYPE_CHECKING:
    from planner.options import TrainerConfig

SIZE_PX, FRAMES = 128, 16
STAGES = ("autoencoder", "sketch", "regression", "flow", "readout")


class PlannerTrainer:
    """Trains auto-encoder, generator and readout one after the other; each may be resumed where its clock stopped."""

    def __init__(self, options: TrainerConfig) -> None:
        self._options = options

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into `output` and return the scores; the weights are in `output`/weights.

        Args:
            episodes: demonstrations to learn from (episodes of play only help the auto-encoder).
            output: folder for weights, checkpoint and metrics.
            resume: continue the run found there.

        Raises:
            ConfigError: `output` holds a run and `resume` is not set.
            DataError: there is no successful demonstration.
            WeightsError: a checkpoint is corrupt, or the sentence encoder is not installed.
        """
        state = load_checkpoint(output)
        if state is not None and not resume:
            raise ConfigError(f"{output}: holds a training run already.", "Resume it, or choose another folder.")
        if self._options.threads is not None:
            torch.set_num_threads(self._options.threads)
        with TrainingMonitor(output) as monitor:
            return _Run(self._options, episodes, output, monitor, state or {}, resume=resume).go()


def begin_with(network: Any, known: Any) -> None:
    """Copy what two networks have in common; what only the first has stays as it is."""
    mine, theirs = network.state_dict(), known.state_dict()
    network.load_state_dict(
        {k: theirs[k] if k in theirs and theirs[k].shape == v.shape else v for k, v in mine.items()}
    )


class _Run:
    """One session of training."""

    def __init__(
        self,
        options: TrainerConfig,
        episodes: EpisodeSource,
        output: Path,
        monitor: TrainingMonitor,
        state: Mapping[str, Any],
        *,
        resume: bool,
    ) -> None:
        self.resume = resume
        self.options, self.output, self.monitor = options, output, monitor
        self.digest = episodes.digest
        torch.manual_seed(options.seed)
        device = choose_device(options.device)
        monitor.begin("reading episodes")
        tracks = load_tracks(
            episodes,
            cameras=options.cameras,
            size=SIZE_PX,
            held_out=HeldOut(options.held_out, *(options.held_out_seeds or ())),
            view=options.view,
            unlabelled=options.unlabelled,
            hands=load_hands(options.hands) if options.hands else None,
            tick=lambda done, total: monitor.advance(done / total, f"{done}/{total}"),
        )
        self.context = TrainingContext(
            tracks=tracks,
            rng=np.random.default_rng(options.seed),
            generator=torch.Generator(device).manual_seed(options.seed),
            device=device,
            size_px=SIZE_PX,
            frames=FRAMES,
            batch=options.batch,
            start_frame=options.start_frame,
        )
        self.state: dict[str, Any] = {"done": {}, "scores": {}, "stage": None, "scales": None, **state}
        if "rng" in state:
            restore_generator(self.context.rng, state["rng"])
            self.context.generator.set_state(state["generator"])
        self.words = WordBank(((t.task, t.instruction) for t in tracks if t.teaches), options.seed)
        self.sampler = self._sampler(labelled=False)
        self.labelled_sampler = self._sampler(labelled=True)
        self.initial = self._weights(options.initial)
        self.known_coder = self._weights(options.initial_autoencoder) or self.initial
        self.told = len(options.cameras) if len(options.cameras) > 1 else 0

    def _sampler(self, *, labelled: bool) -> WindowSampler:
        return WindowSampler(
            self.context.tracks,
            frames=FRAMES,
            start_share=self.options.start_share,
            rng=self.context.rng,
            start_frame=self.options.start_frame,
            labelled=labelled,
            strides=self.options.strides,
        )

    def _weights(self, folder: Path | None) -> PlannerWeights | None:
        if folder is None:
            return None
        return load_weights(folder, dtype=torch.float32, device=self.context.device)

    def go(self) -> dict[str, Any]:
        """Run the stages that are not done and export the weights."""
        minutes, rate = self.options.minutes, self.options.learning_rate
        coder_stage = AutoencoderStage(self.context, self.options.autoencoder_width, self.options.autoencoder_batch)
        coder: Any = coder_stage.network
        if self.known_coder is not None:
            coder["autoencoder"].load_state_dict(self.known_coder.autoencoder.state_dict())
        self._run("autoencoder", coder, coder_stage, minutes.autoencoder, rate * 2)
        autoencoder: FrameAutoencoder = coder["autoencoder"].eval().requires_grad_(False)
        batches = self._batches(autoencoder)
        unet = self._unet()
        self._catch_up()
        sketch_stage = SketchStage(batches, unet, self.labelled_sampler, self.words.tasks)
        self._run("sketch", unet, sketch_stage, minutes.sketch, rate)
        for name in ("regression", "flow"):
            stage = PlanStage(batches, unet, autoencoder, self.sampler, flow=name == "flow")
            share = 1.0 if name == "regression" else 0.5
            self._run(name, unet, stage, getattr(minutes, name), rate * share, exports=(autoencoder, batches.scales))
        unet.eval().requires_grad_(False)
        readout_stage = ReadoutStage(batches, unet, self.labelled_sampler, self.told)
        if self.initial is not None and self.initial.readout is not None:
            begin_with(readout_stage.network, self.initial.readout)
        self._run("readout", readout_stage.network, readout_stage, minutes.readout, rate * 2)
        readout = readout_stage.network if minutes.readout > 0 else None
        if self.options.compact:
            self._measure_compact(unet, readout_stage if readout is not None else None, batches, autoencoder)
        folder = self._export(autoencoder, unet, readout, batches.scales)
        return {"weights": str(folder), **self.state["scores"]}

    def _measure_compact(
        self, unet: PlanUNet, reading: ReadoutStage | None, batches: PlanBatches, autoencoder: FrameAutoencoder
    ) -> None:
        """Replace networks by what will be read from 8 bits, and add to the scores what they are then worth."""
        for network in (autoencoder, unet, *((reading.network,) if reading else ())):
            network.load_state_dict(unpacked(packed(network.state_dict())))
        plans = PlanStage(batches, unet, autoencoder, self.sampler, flow=False)
        self.state["scores"]["as stored"] = {f"held_out/{k}": v for k, v in plans.measure(unet).items()}
        if reading is not None:
            read = reading.measure(reading.network)
            self.state["scores"]["readout as stored"] = {f"held_out/{k}": v for k, v in read.items()}

    def _batches(self, autoencoder: FrameAutoencoder) -> PlanBatches:
        cache = LatentCache(self.context, autoencoder)
        if self.state["scales"] is None:
            # Weights to start from keep their scales: what they know is in these units.
            known = self.initial and self.initial.settings.scales
            self.state["scales"] = asdict(known or measure_scales(self.context, cache, self.sampler))
        scales = Scales.from_json(self.state["scales"])
        return PlanBatches(self.context, cache, scales, self.words, self._looks())

    def _looks(self) -> Looks | None:
        options = self.options
        if not options.looks:
            return None
        held_out = HeldOut(options.held_out, *(options.held_out_seeds or ()))
        return load_looks(options.looks, options.cameras, self.words.tasks, held_out, SIZE_PX)

    def _unet(self) -> PlanUNet:
        unet: Any = PlanUNet(
            frames=FRAMES,
            width=self.options.width,
            multipliers=self.options.multipliers,
            tasks=len(self.words.tasks),
            cameras=self.told,
            strides=self.options.strides != (WHOLE,),
        )
        if self.initial is not None:
            begin_with(unet, self.initial.unet)
        unet.to(device=self.context.device, memory_format=torch.channels_last)
        result: PlanUNet = unet
        return result

    def _catch_up(self) -> None:
        """Read the checkpoint again: a session with less data may have gone on while this one prepared itself."""
        if self.resume and (latest := load_checkpoint(self.output)) is not None:
            self.state.update(latest)

    def _run(
        self,
        name: str,
        network: Any,
        stage: AutoencoderStage | SketchStage | PlanStage | ReadoutStage,
        minutes: float,
        rate: float,
        exports: tuple[FrameAutoencoder, Scales] | None = None,
    ) -> None:
        if name in self.state["done"]:
            network.load_state_dict(self.state["done"][name])
            return
        if minutes <= 0:
            return
        earlier = self.state["stage"] if self.state["stage"] and self.state["stage"]["name"] == name else None
        runner = StageRunner(
            Stage(name, network, stage.loss, stage.measure, minutes, rate), self.monitor, earlier and earlier["state"]
        )

        def save() -> None:
            self.state["stage"] = {"name": name, "state": runner.state()}
            self._save()

        def measured(scores: Mapping[str, float]) -> None:
            if exports is not None:
                self.state["scores"][name] = scored(scores)  # weights on the way know their spread as well
                self._export(exports[0], runner.ema.network, None, exports[1])

        def scored(scores: Mapping[str, float]) -> dict[str, float]:
            return {**scores, "steps": runner.progress.steps, "batch": self.context.batch}

        scores = runner.run(
            save=save,
            save_every_s=self.options.checkpoint_minutes * 60,
            measure_every_s=self.options.evaluate_minutes * 60,
            measured=measured,
            max_steps=self.options.max_steps,
        )
        network.load_state_dict(runner.ema.network.state_dict())
        self.state["done"][name] = {k: v.clone() for k, v in network.state_dict().items()}
        self.state["scores"][name] = scored(scores)
        self.state["stage"] = None
        self._save()

    def _save(self) -> None:
        self.state["rng"] = generator_state(self.context.rng)
        self.state["generator"] = self.context.generator.get_state()
        save_checkpoint(self.output, self.state)

    def _spread(self) -> tuple[float, float]:
        """Return standard deviations of the told path [m] and opening; of the initial weights if nothing drew here."""
        planned = self.state["scores"].get("flow") or self.state["scores"].get("regression")
        if planned:
            # Of a normal error the mean length in 3-D is 1.6, the mean size in 1-D 0.8 standard deviations.
            return planned["held_out/path_mean_mm"] / 1600, planned["held_out/opening_error"] / 0.8
        known = self.initial.settings if self.initial is not None else None
        return (known.path_std_m, known.path_opening_std) if known else (0.0, 0.0)

    def _export(self, autoencoder: FrameAutoencoder, unet: Any, readout: LatentReadout | None, scales: Scales) -> Path:
        scores = self.state["scores"]
        reading = scores.get("readout", {})
        path_std_m, path_opening_std = self._spread()
        settings = Settings(
            camera=self.options.cameras[0],
            cameras=self.options.cameras if self.told else (),
            view=self.options.view,
            size_px=SIZE_PX,
            frames=FRAMES,
            steps=1,
            scales=scales,
            tasks=self.words.tasks,
            position_temperature=reading.get("held_out/position_temperature", 1.0),
            opening_temperature=reading.get("held_out/opening_temperature", 1.0),
            path_std_m=path_std_m,
            path_opening_std=path_opening_std,
            strides=self.options.strides,
            provenance={
                "data": self.digest,
                "episodes": sum(t.teaches and not t.held_out for t in self.context.tracks),
                "held_out": sum(t.teaches and t.held_out for t in self.context.tracks),
                "videos": sum(t.teaches and not t.labelled for t in self.context.tracks),
                "hands": "read" if self.options.hands else "recorded",
                "options": json.loads(
                    self.options.model_dump_json(exclude={"initial", "initial_autoencoder", "looks", "hands"})
                ),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "scores": scores,
            },
        )
        weights = PlannerWeights(autoencoder, unet, readout, self.words.table, settings, "")
        partial, final = self.output / "weights.partial", self.output / "weights"
        shutil.rmtree(partial, ignore_errors=True)
        save_weights(weights, partial, card=model_card(settings), compact=self.options.compact)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        return final
