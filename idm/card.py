"""The model card that travels with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idm.options import TrainerConfig

CARD = """# Inverse dynamics, {camera}

Reads the end-effector position (base frame, metres) and the observed gripper opening (0 closed .. 1 open) from single
{size} x {size} frames of {fixed}, and the motion between two frames. {parameters:,} parameters, {stored}.

## Training

Task-agnostic play only: no expert, no reward, no task label. {training_frames:,} recorded frames (data
{data_digest}), {extra_frames:,} extra frames; {minutes:.1f} minutes, {steps:,} steps, {frames_seen:,} frames seen.
Frames were blurred, rescaled, compressed, recoloured, noised, shifted and blended with first frames, so that
generated pixels are read too. Started from {start}. Reproduce with `cascade train idm`; the options are below.

## Scores on {held_out_episodes:.0f} whole held-out episodes

{table}

The spread is per axis. Its temperatures ({position_temperature:.2f} position, {opening_temperature:.2f} opening) were
fitted on every other held-out episode; the shares are of the remaining ones, ideal 0.954.

## Limits

{once}: another view, pose or field of view is refused. One arm and gripper in simulation, hand
pointing down. Orientation is not read. Where the hand is outside the image the spread is large, and no error is raised.

## Options

{options}
"""


ROWS = {
    "frames": "{held_out_frames:.0f}",
    "position error, mean / median / 95 % [mm]": (
        "{position_error_mean_mm:.1f} / {position_error_median_mm:.1f} / {position_error_p95_mm:.1f}"
    ),
    "opening, mean absolute error": "{opening_mae:.3f}",
    "position errors within 2 standard deviations": "{position_coverage_2sigma:.3f}",
    "opening errors within 2 standard deviations": "{opening_coverage_2sigma:.3f}",
}


def model_card(facts: Mapping[str, Any], config: TrainerConfig) -> str:
    """Return the card as Markdown; `facts` are the trainer's scores."""
    options = "\n".join(f"- `{k}`: {v}" for k, v in config.model_dump().items() if k not in ("init", "extra_frames"))
    names = config.cameras or (config.camera,)
    several = len(names) > 1
    shape = {
        "camera": ("views " if several else "view ") + ", ".join(f"'{name}'" for name in names),
        "fixed": f"{len(names)} fixed cameras" if several else "one fixed camera",
        "once": "Each camera at one place" if several else "One camera at one place",
        "size": config.image_size_px,
        "stored": "8 bits per weight" if config.compact else "bfloat16",
    }
    return CARD.format(table=_table(facts), options=options, **shape, **facts)


def _table(facts: Mapping[str, Any]) -> str:
    """Scores on recorded frames, and on extra frames of the same episodes where there were any."""
    sets = {"": "recorded"}
    if "extra_held_out_frames" in facts:
        sets["extra_"] = "extra (drawn by a planner's decoder)"
    ends = "_held_out_frames"
    cameras = [name.removesuffix(ends) for name in facts if name.endswith(ends) and name != f"extra{ends}"]
    sets |= {f"{name}_": f"recorded, {name}" for name in cameras}
    lines = ["| what | " + " | ".join(sets.values()) + " |", "|---|" + "---|" * len(sets)]
    for title, form in ROWS.items():
        cells = (form.format(**{k.removeprefix(p): v for k, v in facts.items() if k.startswith(p)}) for p in sets)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
