"""A plan on disk: `plan.safetensors` (everything but pixels) beside `plan.mp4` (for people and for decoding).

A failed plan can be mailed, replayed and used as a regression test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts.errors import DataError
from cascade.contracts.records import EeReadout, ImageTransform, PlanLatents, VideoPlan
from cascade.contracts.video import write_mp4

FORMAT = "cascade-plan-1"
PREVIEW_FPS = 8.0


def save_plan(plan: VideoPlan, folder: Path) -> Path:
    """Write the plan into `folder` and return the path of its safetensors file.

    Pixels are stored losslessly in the safetensors file; the mp4 is for people.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = {"frames": np.ascontiguousarray(plan.frames)}
    if plan.latents is not None:
        tensors["latents"] = np.ascontiguousarray(plan.latents.values)
    if plan.flow is not None:
        tensors["flow"] = np.ascontiguousarray(plan.flow)
    if plan.readout is not None:
        for name in ("position_m", "opening", "position_std_m", "opening_std", "progress"):
            value = getattr(plan.readout, name)
            if value is not None:
                tensors[f"readout.{name}"] = np.ascontiguousarray(value)
    meta = {
        "format": FORMAT,
        "instruction": plan.instruction,
        "camera": plan.camera,
        "crop_px": list(plan.transform.crop_px),
        "frame_dt_s": plan.frame_dt_s,
        "latent_space": plan.latents.space if plan.latents else None,
        "readout_source": plan.readout.source if plan.readout else None,
        "seed": plan.seed,
        "provenance": plan.provenance,
        "plan_id": plan.plan_id,
    }
    path = folder / "plan.safetensors"
    partial = folder / "plan.safetensors.partial"
    save_file(tensors, str(partial), metadata={"cascade": json.dumps(meta)})
    partial.replace(path)
    write_mp4(folder / "plan.mp4", plan.frames, 1 / plan.frame_dt_s if plan.frame_dt_s else PREVIEW_FPS)
    return path


def load_plan(path: Path) -> VideoPlan:
    """Read a plan that `save_plan` wrote; `path` is its safetensors file or the folder.

    Raises:
        DataError: missing, corrupt, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    path = path / "plan.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"{path}: expected a plan file, found none.", "Check the path.")
    try:
        with safe_open(str(path), framework="numpy") as file:
            meta = json.loads((file.metadata() or {}).get("cascade", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path}: expected a plan file, found a broken one ({error}).") from error
    if meta.get("format") != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, found {meta.get('format')!r}.")
    readout = None
    if meta["readout_source"]:
        values = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith("readout.")}
        readout = EeReadout(source=meta["readout_source"], **values)
    frames = tensors["frames"]
    return VideoPlan(
        instruction=meta["instruction"],
        camera=meta["camera"],
        transform=ImageTransform(crop_px=tuple(meta["crop_px"]), size_px=(frames.shape[2], frames.shape[1])),
        frames=frames,
        frame_dt_s=meta["frame_dt_s"],
        latents=PlanLatents(values=tensors["latents"], space=meta["latent_space"]) if "latents" in tensors else None,
        flow=tensors.get("flow"),
        readout=readout,
        seed=meta["seed"],
        provenance=meta["provenance"],
        plan_id=meta["plan_id"],
    )
