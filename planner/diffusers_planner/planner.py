"""Any image-to-video pipeline of diffusers as a planner: a sentence and the current image to a video."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import (
    CameraImage,
    ConfigError,
    DataError,
    ImageTransform,
    Needs,
    Observation,
    OperatorStop,
    VideoPlan,
)
from planner.diffusers_planner.loading import Loaded
from planner.diffusers_planner.memory import explain_memory
from planner.diffusers_planner.options import DiffusersConfig, LoraConfig
from planner.diffusers_planner.prompts import PromptCache, check_profile, write_prompt
from planner.diffusers_planner.sizes import Canvas, as_bytes, choose_canvas, choose_frames
from planner.frames import centre_square, first_frame, sample_frames

Image = NDArray[np.uint8]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What one video is made of.

    Attributes:
        view: (H, W, 3) frame 0 of the plan; transform: from the camera to it.
        pictures: the model's given images, on its canvas: the first one and perhaps the goal.
        instruction: the sentence as given; prompt: as the model reads it.
        seed, sample: name the noise.
    """

    view: Image
    transform: ImageTransform
    pictures: list[Image]
    instruction: str
    prompt: str
    seed: int
    sample: int


class DiffusersPlanner:
    """Runs an image-to-video pipeline on the current image.

    The centred square of the camera image fills the middle of the model's canvas; the same square is cut out of what
    the model makes, and the plan's frames are spread evenly over the video. Frame 0 of a plan is the observation
    itself, not the model's copy of it; how far the two are apart is in the provenance as `first_frame_error`.

    Attributes:
        on_step: called with (sample, steps done, steps in all) after every denoising step; may be set at any time.
    """

    def __init__(self, options: DiffusersConfig, loaded: Loaded) -> None:
        self._options, self._loaded = options, loaded
        family = loaded.family
        self._template = check_profile(options.prompt_profile)
        self._canvas = choose_canvas(family, options.width_px, options.height_px)
        self._count = choose_frames(family, options.num_frames)
        self._steps = options.steps or carried(options.loras, "steps") or family.steps
        guidance = carried(options.loras, "guidance") if options.guidance is None else options.guidance
        self._guidance = family.guidance if guidance is None else guidance
        self._negative = family.negative_prompt if options.negative_prompt is None else options.negative_prompt
        self._fps = family.fps if options.fps is None else options.fps
        self._prompts = PromptCache(
            loaded.pipe,
            options.call.get("max_sequence_length"),
            folder=options.prompt_cache,
            model=f"{loaded.fingerprint} {loaded.dtype}",
        )
        self._stop = threading.Event()
        self.on_step: Callable[[int, int, int], None] | None = None

    @property
    def needs(self) -> Needs:
        """The camera it plans in."""
        return Needs(cameras=(self._options.camera,))

    @property
    def family(self) -> str:
        """Name of the family, such as 'wan22-ti2v'."""
        return self._loaded.family.name

    def cancel(self) -> None:
        """Make the plan that is being made end within one denoising step; from any thread."""
        self._stop.set()

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Imagine `samples` videos, one after the other so that memory does not depend on their number.

        Raises:
            ConfigError: the instruction is empty, the family cannot aim at a goal image, or memory ran out.
            DataError: the camera is missing, or what came out is no video.
            OperatorStop: `cancel` was called meanwhile.
        """
        if samples < 1:
            raise ConfigError(f"samples: expected 1 or more, found {samples}.")
        if goal is not None and self._loaded.family.goal_argument is None:
            raise ConfigError(f"planner 'diffusers': {self.family} cannot aim at a goal image.", "Leave the goal out.")
        if goal is None and self._loaded.family.needs_goal:
            raise ConfigError(
                f"planner 'diffusers': {self.family} fills in between two images and got no goal image.",
                "Give a goal, or use the model's image-to-video sibling.",
            )
        prompt = write_prompt(self._template, instruction)
        self._stop.clear()
        view, transform = first_frame(observation, self._options.camera, self._options.size_px)
        # The model sees the camera's own pixels, not their plan-sized copy.
        pictures = [self._picture(observation.image(self._options.camera))]
        if goal is not None:
            pictures.append(self._picture(goal))
        seed = seed if self._options.seed is None else self._options.seed
        return [
            self._sample(
                Asked(
                    view=view,
                    transform=transform,
                    pictures=pictures,
                    instruction=instruction,
                    prompt=prompt,
                    seed=seed,
                    sample=sample,
                )
            )
            for sample in range(samples)
        ]

    def _picture(self, image: CameraImage) -> Image:
        height, width = image.rgb.shape[:2]
        side = min(width, height)
        return self._canvas.place(centre_square(width, height, side).apply(image.rgb))

    def _sample(self, asked: Asked) -> VideoPlan:
        began = time.perf_counter()
        ms: dict[str, float] = {}
        video = as_bytes(self._run(asked, ms))
        made = self._canvas.cut(video, self._options.size_px)
        frames = sample_frames(made, self._options.frames)
        error = float(np.abs(frames[0].astype(np.int16) - asked.view).mean())
        frames[0] = asked.view
        ms["total"] = _since(began)
        dt_s = (len(made) - 1) / self._fps / (len(frames) - 1) if self._fps else None
        return VideoPlan(
            instruction=asked.instruction,
            camera=self._options.camera,
            transform=asked.transform,
            frames=frames,
            frame_dt_s=dt_s,
            seed=asked.seed,
            provenance={**self._described(asked), "first_frame_error": round(error, 2), "ms": ms}
            | {"frames_made": len(made)},
        )

    def _described(self, asked: Asked) -> dict[str, Any]:
        canvas: Canvas = self._canvas
        return {
            "planner": "diffusers",
            "family": self.family,
            "pipeline": type(self._loaded.pipe).__name__,
            "model": self._options.model,
            "weights": self._loaded.fingerprint,
            "loras": [lora.model_dump() for lora in self._options.loras],
            "prompt": asked.prompt,
            "negative_prompt": self._negative,
            "steps": self._steps,
            "guidance": self._guidance,
            "size_px": list(canvas.size_px),
            "num_frames": self._count,
            "frame_step": self._loaded.family.frame_step,
            "dtype": self._loaded.dtype,
            "quantise": self._options.quantise,
            "sample": asked.sample,
        }

    def _run(self, asked: Asked, ms: dict[str, float], perform: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """Call the pipeline, or let `perform` do it with the arguments of the call; return what comes of it."""
        import torch

        pipe, family = self._loaded.pipe, self._loaded.family
        width, height = self._canvas.size_px
        what = f"making {self._count} frames of {width}x{height} with {self.family} ({self._loaded.dtype})"
        try:
            with torch.no_grad(), explain_memory(self._options, what):
                began = time.perf_counter()
                words = self._words(asked.prompt)
                ms["text"] = _since(began)
                began = time.perf_counter()
                call = {
                    **words,
                    **self._images(asked.pictures),
                    "num_frames": self._count,
                    "num_inference_steps": self._steps,
                    # Noise is drawn on the CPU, so that it is the same on every device.
                    "generator": torch.Generator("cpu").manual_seed(_mixed(asked.seed, asked.sample)),
                    "output_type": "np",
                    **({"height": height, "width": width} if family.takes_size else {}),
                    **({family.guidance_argument: self._guidance} if family.guidance_argument else {}),
                    **({family.fps_argument: self._rate()} if family.fps_argument else {}),
                    **self._options.call,
                }
                with self._watching(asked.sample) as more:
                    video = pipe(**call, **more).frames[0] if perform is None else perform({**call, **more})
                ms["video"] = _since(began)
        finally:
            pipe.maybe_free_model_hooks()
        return video

    def _rate(self) -> int:
        return round(self._fps or self._loaded.family.fps or 0) or 16

    def _words(self, prompt: str) -> dict[str, Any]:
        family = self._loaded.family
        if family.caches_prompt:
            return self._prompts.arguments(prompt, self._negative, self._guidance > 1)
        negative = {"negative_prompt": self._negative} if family.takes_negative else {}
        return {"prompt": prompt, **negative}

    def _images(self, pictures: list[Image]) -> dict[str, Any]:
        import PIL.Image

        family = self._loaded.family
        images = [PIL.Image.fromarray(picture) for picture in pictures]
        if family.image == "conditions":
            from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

            # Two images given as `image` and `frame_index` lose the second one in diffusers 0.42; conditions do not.
            where = [0, self._count - 1]
            conditions = [LTXVideoCondition(image=i, frame_index=k) for i, k in zip(images, where, strict=False)]
            return {"conditions": conditions}
        if family.image == "video":
            # A video of one frame is what the pipeline makes of an image, for which it would want torchvision.
            return {"video": [images[0]], "num_latent_conditional_frames": 1}
        goal = {family.goal_argument: images[1]} if len(images) > 1 and family.goal_argument else {}
        return {family.image_argument: images[0], **goal}

    def _watching(self, sample: int) -> Any:
        from planner.diffusers_planner.watching import watching

        return watching(self._loaded.pipe, lambda done, latents: self._after_step(sample, done, latents))

    def _after_step(self, sample: int, done: int, latents: Any) -> None:
        if self._stop.is_set():
            raise OperatorStop(f"Planning stopped after {done} of {self._steps} steps.")
        if latents is not None and not bool(latents.isfinite().all()):
            raise DataError(
                f"diffusers planner: expected finite latents, found NaN after step {done} of {self._steps}.",
                "Use dtype: bfloat16 or float32, and check steps and guidance.",
            )
        _log.debug("sample %d: step %d of %d", sample, done, self._steps)
        if self.on_step is not None:
            self.on_step(sample, done, self._steps)


def carried(loras: Sequence[LoraConfig], name: str) -> Any:
    """Return what the last LoRA that has an opinion says of `name` ('steps' or 'guidance'), or None."""
    return next((value for lora in reversed(loras) if (value := getattr(lora, name)) is not None), None)


def _mixed(seed: int, sample: int) -> int:
    """Return a seed for each sample; sample 0 of seed 1 is not sample 1 of seed 0."""
    return int(np.random.SeedSequence([seed & 0xFFFFFFFF, sample]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
