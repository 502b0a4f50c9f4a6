"""The model card that travels with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idm.options import TrainerConfig

CARD = """# Inverse dynamics, view '{camera}'

Reads the end-effector position (base frame, metres) and the observed gripper opening (0 closed .. 1 open) from single
{size} x {size} frames of one fixed camera, and the motion between two frames. {parameters:,} parameters, bfloat16.

## Training

Task-agnostic play only: no expert, no reward, no task label. {training_frames:,} recorded frames (data
{data_digest}), {extra_frames:,} extra frames; {minutes:.1f} minutes, {steps:,} steps, {frames_seen:,} frames seen.
Frames were blurred, rescaled, compressed, recoloured, noised, shifted and blended with first frames, so that
generated pixels are read too. Reproduce with `cascade train idm`; the options are below.

## Scores on {held_out_episodes:.0f} whole held-out episodes ({held_out_frames:.0f} frames)

| what | value |
|---|---|
| position error, mean / median / 95 % [mm] | {position_errors} |
| opening, mean absolute error | {opening_mae:.3f} |
| share of errors within 2 standard deviations, position (ideal 0.954) | {position_coverage_2sigma:.3f} |
| the same, opening | {opening_coverage_2sigma:.3f} |
| temperatures, position / opening | {position_temperature:.2f} / {opening_temperature:.2f} |

Temperatures were fitted on every other held-out episode; coverage is of the remaining ones. The spread is per axis.

## Limits

One camera at one place: another view, pose or field of view is refused. One arm and gripper in simulation, hand
pointing down. Orientation is not read. Where the hand is outside the image the spread is large, and no error is raised.

## Options

{options}
"""


def model_card(facts: Mapping[str, Any], config: TrainerConfig) -> str:
    """Return the card as Markdown; `facts` are the trainer's scores."""
    options = "\n".join(f"- `{k}`: {v}" for k, v in config.model_dump().items() if k not in ("init", "extra_frames"))
    names = ("mean", "median", "p95")
    errors = " / ".join(f"{facts[f'position_error_{name}_mm']:.1f}" for name in names)
    return CARD.format(
        position_errors=errors, camera=config.camera, size=config.image_size_px, options=options, **facts
    )
