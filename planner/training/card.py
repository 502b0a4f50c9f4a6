"""The model card that travels with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.weights import Settings


def _cameras(settings: Settings) -> str:
    names = " or ".join(f"`{name}`" for name in settings.cameras or (settings.camera,))
    told = ", with the number of the camera and the measured hand," if settings.cameras else ""
    return f"{names}{' (all of its image, squeezed into a square)' if settings.view == 'whole' else ''}{told}"


def _videos(made: Mapping[str, Any]) -> list[str]:
    count, tasks = made.get("videos", 0), made.get("options", {}).get("unlabelled", [])
    return [f"{count} of them as videos only, without any label: {', '.join(tasks)}."] if count else []


def _hands(made: Mapping[str, Any]) -> list[str]:
    if made.get("hands") != "read":
        return []
    return ["Hands were read in the videos; those that a robot recorded were only measured against."]


def _readout(made: Mapping[str, Any]) -> list[str]:
    if "readout" in made.get("scores", {}):
        return ["- `readout/`: hand position and gripper opening read from planned latents, with a calibrated spread."]
    return [
        "- no `readout/`: the hand's path that comes with a plan is the one the U-Net tells beside its frames, with",
        "  the spread it had on held-out episodes, learnt from demonstrations and not read from imagined frames.",
    ]


def _held_out(made: Mapping[str, Any]) -> str:
    options = made.get("options", {})
    chosen = ["by a hash of task and seed"] if options.get("held_out") else []
    if seeds := options.get("held_out_seeds"):
        chosen.append(f"for their seeds {seeds[0]} to {seeds[1]}")
    how = f", chosen {' or '.join(chosen)}," if chosen else ""
    return f"{made.get('held_out', '?')} more{how} were only measured on."


def model_card(settings: Settings) -> str:
    """Return Markdown: what it is, what it learnt from, what it scored, what it cannot do."""
    made: Mapping[str, Any] = settings.provenance or {}
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: diffusers",
        "pipeline_tag: image-to-video",
        "tags: [robotics, video-prediction, world-model]",
        "---",
        "# cascade embedded planner",
        "",
        f"Imagines a manipulation task: one sentence and one {settings.size_px}x{settings.size_px} image of camera",
        f"{_cameras(settings)} in,",
        f"{settings.frames} future frames out. The frames are evenly spaced along what happens",
        "(path of the hand and changes of the gripper), not along the clock.",
        "",
        "## Parts",
        "",
        "- `ae/`: auto-encoder of single frames (f8, 8 channels); the decoder also sees the plan's first frame.",
        "- `unet/`: 2-D U-Net over all future latent frames stacked as channels (MCVD, arXiv 2205.09853);",
        "  rectified flow with x-prediction (arXiv 2209.03003); at one step it is a regressor.",
        *_readout(made),
        "- `text_table.safetensors`: MiniLM vectors of the known wordings, for machines without the sentence encoder.",
        "",
        "## Data",
        "",
        f"{made.get('episodes', '?')} views of successful demonstrations by scripts in Meta-World (simulation),",
        f"of {len(settings.tasks)} tasks: {', '.join(settings.tasks)}.",
        _held_out(made),
        *_videos(made),
        *_hands(made),
        f"Data set `{made.get('data', '?')}`.",
        "",
        "## Training and scores",
        "",
        f"`cascade train planner`, options: `{made.get('options', {})}`; torch {made.get('torch', '?')}.",
        "",
        "| stage | measured on held-out episodes | value |",
        "|---|---|---|",
    ]
    for stage, scores in made.get("scores", {}).items():
        lines += [f"| {stage} | {name.removeprefix('held_out/')} | {value:.4g} |" for name, value in scores.items()]
    lines += [
        "",
        "## Limits",
        "",
        "One simulated scene, one arm, fixed cameras. Other tasks, views or real images are outside its knowledge;",
        "`text_distance` in a plan's provenance says how far a sentence is from all known wordings.",
        "Where timing is ambiguous a one-step plan is an average of futures and may look soft.",
        "",
    ]
    return "\n".join(lines)
