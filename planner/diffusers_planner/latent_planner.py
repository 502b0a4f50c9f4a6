"""A diffusers pipeline whose latents or hidden states are handed on; frames are made when somebody looks."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import PlanLatents, VideoPlan
from planner.diffusers_planner.interception import Caught, Grid, check_tap, finish, intercept
from planner.diffusers_planner.loading import Loaded, load_pipeline
from planner.diffusers_planner.options import DiffusersConfig
from planner.diffusers_planner.planner import Asked, DiffusersPlanner
from planner.diffusers_planner.prompts import check_profile
from planner.diffusers_planner.sizes import as_bytes
from planner.frames import sample_frames
from planner.latents import Handover

Image = NDArray[np.uint8]
NO_NOISE = {"image_cond_noise_scale": 0.0}


class LatentDiffusersPlanner(DiffusersPlanner):
    """Ends the pipeline's call where the options say; see `DiffusersPlanner` for the rest.

    A plan's latents are the pipeline's own: (L, C, h, w) of L latent frames, most often one in four of the video.
    Looking at a plan costs what was left out: decoding; of an unfinished plan, the estimate that its last step made of
    the finished one; of a tapped pass, that pass anew and to its end.

    Raises:
        ConfigError: the pipeline has no module of the tap's path.
    """

    def __init__(self, options: DiffusersConfig, loaded: Loaded) -> None:
        super().__init__(options, loaded)
        self._handover = Handover(stop_at=options.stop_at, tap=options.tap)
        if options.tap is not None:
            check_tap(loaded.pipe, options.tap)
            if options.stop_at is None and options.guidance is None and loaded.family.takes_negative:
                self._guidance = 1.0  # the one pass is heard with the words, so the one without them is not made

    def _sample(self, asked: Asked) -> VideoPlan:
        began = time.perf_counter()
        ms: dict[str, float] = {}
        caught = self._catch(asked, ms=ms)
        ms["total"] = round((time.perf_counter() - began) * 1000, 3)
        count = self._options.frames
        facts: dict[str, Any] = {"stopped_at": round(caught.level, 4), "steps_done": caught.steps}
        plan = VideoPlan(
            instruction=asked.instruction,
            camera=self._options.camera,
            transform=asked.transform,
            decode=lambda: self._frames(asked, caught, plan.provenance),
            length=count,
            frame_dt_s=(self._count - 1) / self._fps / (count - 1) if self._fps else None,
            latents=PlanLatents(values=caught.values.numpy(), space=self._space(caught)),
            seed=asked.seed,
            provenance={**self._described(asked), **facts, "ms": ms},
        )
        return plan

    def _catch(self, asked: Asked, *, ms: dict[str, float], estimate: bool = False) -> Caught:
        pipe, (width, height) = self._loaded.pipe, self._canvas.size_px
        grid = Grid.of(pipe, self._count, width, height)

        def perform(call: dict[str, Any]) -> Caught:
            return intercept(pipe, lambda: pipe(**call), self._handover, grid, estimate=estimate)

        caught: Caught = self._run(asked, ms, perform)
        self._after_step(asked.sample, caught.steps, caught.values)
        return caught

    def _frames(self, asked: Asked, caught: Caught, provenance: dict[str, Any]) -> Image:
        """Decode what a plan would look like, frame 0 being the observation; note how long it took."""
        pipe = self._loaded.pipe
        began = time.perf_counter()
        if caught.clean is None:
            caught = self._catch(asked, ms={}, estimate=True)
        clean = caught.clean

        # Noise that a pipeline lays on the given image belongs to early steps, and this one is in place of the last.
        rest = {"num_inference_steps": 1} | (NO_NOISE if set(NO_NOISE) <= set(call_arguments(pipe)) else {})

        def perform(call: dict[str, Any]) -> Any:
            return finish(pipe, lambda: pipe(**{**call, **rest}).frames[0], clean)

        made = self._canvas.cut(as_bytes(self._run(asked, {}, perform)), self._options.size_px)
        frames = sample_frames(made, self._options.frames)
        error = float(np.abs(frames[0].astype(np.int16) - asked.view).mean())
        frames[0] = asked.view
        provenance |= {"first_frame_error": round(error, 2), "frames_made": len(made)}
        provenance["ms"]["decode"] = round((time.perf_counter() - began) * 1000, 3)
        return frames

    def _space(self, caught: Caught) -> str:
        """Name the space: LoRAs change what a network makes as much as its weights do."""
        weights = self._loaded.fingerprint
        if self._options.loras:
            loras = json.dumps([lora.model_dump() for lora in self._options.loras], sort_keys=True)
            weights = hashlib.sha256(f"{weights}{loras}".encode()).hexdigest()
        return self._handover.space(self.family, weights, round(caught.level, 3))


def call_arguments(pipe: Any) -> list[str]:
    """Return the names of the arguments of a pipeline's call."""
    return list(inspect.signature(type(pipe).__call__).parameters)


def load_planner(options: DiffusersConfig) -> DiffusersPlanner:
    """Load the pipeline that `options` name.

    Raises:
        ConfigError: something is not installed, the class is unknown, or options do not fit the family.
        WeightsError: the model is missing or broken.
    """
    check_profile(options.prompt_profile)
    latent = options.output == "latent" or options.stop_at is not None or options.tap is not None
    return (LatentDiffusersPlanner if latent else DiffusersPlanner)(options, load_pipeline(options))
