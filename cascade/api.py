"""The command line's main job from Python, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cascade.compose import compose, execute
from cascade.outcome import EpisodeResult


def run(
    instruction: str,
    *,
    rig: str = "sim",
    recipe: str = "unipi",
    task: str | None = None,
    seed: int = 0,
    planner: str | None = None,
    overrides: Sequence[str] = (),
    runs: Path | str = "runs",
) -> EpisodeResult:
    """Imagine the task, read the motion, move the arm, write the run folder.

    Args:
        instruction: what to do, in words.
        rig: name of a packaged rig, or path of a YAML file.
        recipe: name of a packaged recipe, or path of a YAML file.
        task: simulated task; None lets the rig find it in the instruction.
        seed: of the layout and of the plans.
        planner: planner that takes the place of the recipe's.
        overrides: as `--set`, such as "planner.options.steps=4".
        runs: folder that the run folder is made in.

    Returns:
        How the episode ended; `run_dir` names the run folder, `error` holds the error of a stage, if any.

    Raises:
        CascadeError: something is wrong before anything moves.
    """
    config, _ = compose(
        instruction=instruction,
        task=task,
        seed=seed,
        rig=rig,
        recipe=recipe,
        planner=planner,
        overrides=overrides,
    )
    return execute(config, runs=Path(runs), command=f"cascade.api.run({instruction!r}, ...)")
