"""The run folder, written as it goes: a run that is killed is still readable.

runs/<YYYYmmdd-HHMMSS>-<task>-<recipe>/ holds run.json, config.yaml, events.jsonl, plans/NNN/, chunks/NNN.json,
trajectory.jsonl, executed.mp4 and executed.jsonl. Every line is flushed when it is written.
"""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import numpy as np

from cascade.contracts.errors import CascadeError, ConfigError, StaleImageError
from cascade.contracts.plan_file import save_plan
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.contracts.video import VideoWriter
from cascade.events import Look, weights_of
from cascade.follower import ControlStep

SCHEMA_VERSION = 1
PACKAGES = ("cascade-wam", "torch", "diffusers", "numpy", "opencv-python", "av", "metaworld", "mujoco", "gymnasium")


def new_run_folder(root: Path, task: str, recipe: str, *, at: datetime | None = None) -> Path:
    """Create and return a run folder that no other run has, even one that starts in the same second.

    Raises:
        ConfigError: `root` cannot be written to.
    """
    stamp = (at or datetime.now().astimezone()).strftime("%Y%m%d-%H%M%S")
    name = "-".join([stamp, *(re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-")[:40] for part in (task, recipe))])
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                if not root.is_dir():
                    raise
                continue
            (folder / "events.jsonl").touch()
            return folder
    except OSError as error:
        raise ConfigError(
            f"{root}: expected a folder that run folders can be written to, found one that cannot ({error.strerror}).",
            "Choose another with --runs, or change its permissions.",
        ) from error
    raise AssertionError("unreachable")


class RunRecorder:
    """Writes one run folder (a Recorder).

    Args:
        folder: from `new_run_folder`.
        facts: contents of run.json known at the start.
        config: text of config.yaml.
        control_hz: control rate, for the time base of the video.
        video_every: control steps per frame of the video.
    """

    def __init__(
        self, folder: Path, *, facts: Mapping[str, Any], config: str, control_hz: float, video_every: int
    ) -> None:
        self.folder = folder
        self._every = video_every
        self._fps = control_hz / video_every
        self._began = perf_counter()
        self._files: dict[str, IO[bytes]] = {}
        self._video: VideoWriter | None = None
        self._frames = 0
        self._facts: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "started": _now(),
            "versions": versions(),
            "weights": {},
            "control_hz": control_hz,
            **facts,
        }
        with self._writing():
            (folder / "config.yaml").write_text(config, encoding="utf-8")
        self._write_facts()

    @property
    def wants_pixels(self) -> bool:
        """Yes: plans are written as video."""
        return True

    def event(self, kind: str, **values: Any) -> None:
        """Append a line to events.jsonl, stamped with the seconds since the run began."""
        self._line("events.jsonl", {"t_s": round(perf_counter() - self._began, 4), "kind": kind, **values})

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Write plans/NNN/."""
        self._note_weights(plan.provenance)
        with self._writing():
            save_plan(plan, self.folder / "plans" / f"{index:03d}")

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Write chunks/NNN.json."""
        self._note_weights(chunk.provenance)
        with self._writing():
            path = self.folder / "chunks" / f"{index:03d}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"plan": plan, **chunk_values(chunk)}, default=_json), encoding="utf-8")

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Append a line to trajectory.jsonl, and every few steps a frame to executed.mp4."""
        row = {
            "step": number,
            "t_s": round(t_s, 5),
            "plan": plan,
            "chunk": chunk,
            "index": step.index,
            "target": _rounded(step.target),
            "sent": _rounded(step.sent),
            "gripper_target": round(step.gripper, 4),
            "ee": _rounded(step.state.position_m),
            "opening": round(float(step.state.gripper_opening), 4),
            "success": step.success,
        }
        self._line("trajectory.jsonl", row)
        if number % self._every == 0 or step.success:
            self.picture(number, t_s, look)

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Append a frame to executed.mp4."""
        try:
            rgb = look()
        except StaleImageError:
            return  # a late camera costs the film a frame, never the run
        with self._writing():
            if self._video is None:
                self._video = VideoWriter(self.folder / "executed.mp4", self._fps)
            self._video.write(rgb)
        self._line("executed.jsonl", {"frame": self._frames, "step": number, "t_s": round(t_s, 5)})
        self._frames += 1

    def finish(self, **facts: Any) -> None:
        """Close all files and write the outcome to run.json; never hides the outcome behind a writing error."""
        try:
            self.close()
        finally:
            self._facts.update(status="done", ended=_now(), **facts)
            self._write_facts()

    def close(self) -> None:
        """Close all files as they are; what was written so far can be read."""
        try:
            if self._video is not None:
                with self._writing():
                    self._video.close()
        finally:
            self._video = None
            for file in self._files.values():
                file.close()
            self._files.clear()

    def update(self, **facts: Any) -> None:
        """Add facts to run.json."""
        self._facts.update(facts)
        self._write_facts()

    def _note_weights(self, provenance: Mapping[str, Any]) -> None:
        known = self._facts["weights"]
        found = known | weights_of(provenance)
        if found != known:
            self.update(weights=found)

    def _write_facts(self) -> None:
        with self._writing():
            partial = self.folder / "run.json.partial"
            partial.write_text(json.dumps(self._facts, indent=2, default=_json) + "\n", encoding="utf-8")
            partial.replace(self.folder / "run.json")

    def _line(self, name: str, row: Mapping[str, Any]) -> None:
        with self._writing():
            file = self._files.get(name)
            if file is None:
                # Unbuffered: what is written is in the file, and a failed write leaves nothing to fail again.
                file = self._files[name] = (self.folder / name).open("ab", buffering=0)
            file.write(json.dumps(row, default=_json).encode() + b"\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise CascadeError(f"{self.folder}: the disk is full.", "Free some space and run again.") from error
            raise ConfigError(
                f"{self.folder}: cannot be written ({error.strerror}).", "Choose another place with --runs."
            ) from error


def chunk_values(chunk: ActionChunk) -> dict[str, Any]:
    """Return a chunk as JSON values."""
    return {
        "values": chunk.values.tolist(),
        "gripper": chunk.gripper.tolist(),
        "times_s": chunk.times_s.tolist(),
        "hold_s": np.asarray(chunk.hold_s).tolist(),
        "tolerance_m": np.asarray(chunk.tolerance_m).tolist(),
        "confidence": None if chunk.confidence is None else chunk.confidence.tolist(),
        "space": {"kind": chunk.space.kind.value, "frame": chunk.space.frame, "rate_hz": chunk.space.rate_hz},
        "final": chunk.final,
        "provenance": dict(chunk.provenance),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a result depends on, from metadata."""
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the git commit this package runs from, '-dirty' added when files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    asked = ("git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12")
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]


def _json(value: Any) -> Any:
    """Numpy values and paths as JSON; anything else is named by its text, since a record must not stop a run."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
