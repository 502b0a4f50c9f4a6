"""Looking in after every denoising step, whether or not the pipeline offers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def watching(pipe: Any, after_step: Callable[[int, Any], None]) -> Iterator[dict[str, Any]]:
    """Call `after_step` with the number of steps done and the latents after every denoising step inside the context.

    An exception that `after_step` raises ends the pipeline's call. Yields arguments to add to that call. A pipeline
    without callbacks is watched at its scheduler, whose `step` every pipeline calls once per step.
    """
    if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:

        def on_step_end(_pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            after_step(step + 1, tensors.get("latents"))
            return tensors

        yield {"callback_on_step_end": on_step_end}
        return
    original, done = pipe.scheduler.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        result = original(*args, **kwargs)
        done += 1
        after_step(done, result[0])
        return result

    pipe.scheduler.step = counted
    try:
        yield {}
    finally:
        del pipe.scheduler.step  # uncovers the class's own method
