"""The planner that reads its plan: any video, a saved plan, or the folder of a recorded run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from cascade.contracts import CameraImage, DataError, ImageTransform, Needs, Observation, VideoPlan
from cascade.contracts.plan_file import load_plan
from cascade.contracts.video import read_video
from planner.frames import centre_square, resize_video, sample_frames

VIDEO_NAMES = ("plan.mp4", "executed.mp4", "video.mp4", "episode.mp4")


def locate(path: Path) -> Path:
    """Return the file that holds the plan: `path` itself, or what a folder is known to keep it in.

    Raises:
        DataError: nothing is there, or a folder holds no plan and no single video.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: expected a video, a plan or a run folder, found nothing.", "Check the path.")
    plans = sorted(path.glob("**/plan.safetensors"))
    if plans:
        return plans[0]
    for name in VIDEO_NAMES:
        if (path / name).is_file():
            return path / name
    videos = sorted(path.glob("**/*.mp4"))
    if len(videos) == 1:
        return videos[0]
    raise DataError(
        f"{path}: expected a plan.safetensors or one video inside, found {len(videos)} videos.", "Name one file."
    )


class FilePlanner:
    """Offers a recorded video as the plan, so that extractors are tried without a generator.

    Whether its first frame looks like the scene is the gate's question, not this planner's.
    """

    def __init__(
        self,
        *,
        path: Path,
        camera: str,
        size_px: int,
        frames: int,
        start_frame: int = 0,
        frame_count: int | None = None,
    ) -> None:
        self._path, self._camera, self._size, self._frames = path, camera, size_px, frames
        self._start, self._count = start_frame, frame_count
        locate(path)

    @property
    def needs(self) -> Needs:
        """One camera."""
        return Needs(cameras=(self._camera,))

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return the plan in the file, `samples` times; seed and goal change nothing.

        Raises:
            DataError: the file is missing, corrupt, or too short.
        """
        began = time.perf_counter()
        source = locate(self._path)
        if source.suffix == ".safetensors":
            return [self._saved(source, instruction) for _ in range(samples)]
        video, fps = read_video(source, start=self._start, count=self._count)
        frames = resize_video(sample_frames(video, self._frames), self._size)
        image = observation.image(self._camera).rgb
        step_s = (len(video) - 1) / (self._frames - 1) / fps
        ms = (time.perf_counter() - began) * 1000
        return [
            VideoPlan(
                instruction=instruction,
                camera=self._camera,
                transform=self._transform(image.shape[1], image.shape[0]),
                frames=frames,
                frame_dt_s=step_s,
                seed=seed,
                provenance={"planner": "file", "file": str(source), "frames_read": len(video), "ms": {"read": ms}},
            )
            for _ in range(samples)
        ]

    def _transform(self, width: int, height: int) -> ImageTransform:
        return centre_square(width, height, self._size)

    def _saved(self, source: Path, instruction: str) -> VideoPlan:
        saved = load_plan(source)
        same_size = saved.transform.size_px == (self._size, self._size)
        frames = saved.frames if same_size else resize_video(saved.frames, self._size)
        # Latents belong to the generator's own grid, so a resized plan no longer has any.
        return VideoPlan(
            instruction=instruction or saved.instruction,
            camera=saved.camera,
            transform=ImageTransform(crop_px=saved.transform.crop_px, size_px=(self._size, self._size)),
            frames=np.ascontiguousarray(frames),
            frame_dt_s=saved.frame_dt_s,
            latents=saved.latents if same_size else None,
            flow=saved.flow if same_size else None,
            readout=saved.readout,
            seed=saved.seed,
            provenance={"planner": "file", "file": str(source), "saved": saved.provenance},
        )
