"""The model card of a policy's weights."""

from __future__ import annotations

from planner.policies.weights import PolicySettings

WHAT = {
    "bc": "Behaviour cloning: image, sentence and measured hand to the next targets. It imagines nothing.",
    "cotrained": "Learnt actions and future video together over one trunk; the video head is left out when it acts.",
    "joint": "A small joint world-action model: imagines the latents of future frames and reads its actions from them.",
}


def policy_card(settings: PolicySettings) -> str:
    """Return Markdown: what it is, what it learnt from, what it scored, what it cannot do."""
    made = settings.provenance
    given = {key: value for key, value in made["options"].items() if value is not None}
    options = " ".join(f"--set {key}={_plain(value)}" for key, value in given.items())
    lines = [
        "---",
        "license: apache-2.0",
        "pipeline_tag: robotics",
        "---",
        f"# cascade policy `{settings.kind}`",
        "",
        WHAT[settings.kind],
        "It exists to be compared with a cascade (`docs/study.md`), not to be good.",
        "",
        f"{made['scores'].get('parameters', '?')} parameters, 8 bits each; camera `{settings.camera}` at 128 x 128;",
        f"a target every {settings.step_s:g} s.",
        "",
        "## Data",
        "",
        f"{made['demonstrations']} demonstrations of Meta-World's scripted experts (simulation), data set",
        f"`{made['data']}`; {made['held_out']} more were only measured on. Tasks: {', '.join(made['tasks'])}.",
        "",
        "## Training and scores",
        "",
        f"`cascade train planner DATA --backend policy {options}`; torch {made['torch']}.",
        "",
        "| measured on held-out demonstrations | value |",
        "|---|---|",
        *(f"| {name.removeprefix('held_out/')} | {value:.4g} |" for name, value in made["scores"].items()),
        "",
        "## Limits",
        "",
        f"One simulated scene, one camera, {len(made['tasks'])} tasks; minutes are of processor time, and few.",
        "",
    ]
    return "\n".join(lines)


def _plain(value: object) -> str:
    """Return a value as `--set` takes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
