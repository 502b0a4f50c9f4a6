"""The model card of weights that read latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idm.options import LatentTrainerConfig

CARD = """# Inverse dynamics on latents

Reads the end-effector position (base frame, metres) and the observed gripper opening (0 closed .. 1 open) in the
{frames} frames of a plan from what its planner hands on, without decoding a frame. {parameters:,} parameters, bfloat16.

- Latents: `{space}`, (L, C, h, w) = {shape}, seen through camera '{camera}'. Others are refused.
- Planner: `{planner}`.
- Also told: where the hand is measured to be at the plan's start, and how open it is.

## Training

{training_plans:,} plans that the planner made of {training_episodes:,} successful demonstrations (data
{data_digest}), labelled with what the hand then did; {minutes:.1f} minutes, {steps:,} steps, seed {seed}. Reproduce with

```bash
{command}
```

## Scores on {held_out_episodes:.0f} held-out demonstrations, {held_out_frames:.0f} frames

| what | value |
|---|---|
| position error, mean / median / 95 % [mm] | {position_error_mean_mm:.1f} / {position_error_median_mm:.1f} / {position_error_p95_mm:.1f} |
| opening, mean absolute error | {opening_mae:.3f} |
| position errors within 2 standard deviations | {position_coverage_2sigma:.3f} |
| opening errors within 2 standard deviations | {opening_coverage_2sigma:.3f} |

The error is against what happened, so what the planner imagined wrongly counts as well. The spread's temperatures
({position_temperature:.2f} position, {opening_temperature:.2f} opening) were fitted on every other held-out episode; the
shares are of the remaining ones, ideal 0.954.

## Limits

One planner with one set of weights and options, one camera at one place, one arm in simulation, the hand pointing down.
Orientation is not read. What the planner does not know, these weights do not know either.
"""  # noqa: E501


def latent_card(facts: Mapping[str, Any], network: Mapping[str, Any], config: LatentTrainerConfig) -> str:
    """Return the card as Markdown; `facts` are the trainer's scores, `network` is its configuration."""
    return CARD.format(
        frames=network["frames"],
        shape=tuple(network["shape"]),
        camera=network["camera"],
        planner=_planner(config),
        seed=config.seed,
        command=_command(config),
        **facts,
    )


def _planner(config: LatentTrainerConfig) -> str:
    options = ", ".join(f"{key}: {value}" for key, value in config.planner.options.items())
    return f"{config.planner.name}" + (f" ({options})" if options else "")


def _command(config: LatentTrainerConfig) -> str:
    """The command with every option that is not the default's."""
    default = LatentTrainerConfig()
    words = [
        "cascade train idm data/expert -o train/latents --reads latents",
        f"--set planner.name={config.planner.name}",
    ]
    words += [f"--set planner.options.{key}={value}" for key, value in config.planner.options.items()]
    values = config.model_dump(mode="json", exclude={"planner"})
    standard = default.model_dump(mode="json", exclude={"planner"})
    words += [f"--set {key}={value}" for key, value in values.items() if value != standard[key]]
    return " ".join(words)
