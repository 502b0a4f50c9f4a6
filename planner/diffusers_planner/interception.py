"""Ending a pipeline's call early, with what it had in its hands; and finishing later what was left.

Every pipeline calls its scheduler's `step` once per denoising step and its transformer before that, whatever else it
does. So both are watched from outside, and no family needs code of its own.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cascade.contracts.errors import ConfigError
from planner.latents import Handover, find_module, first_tensor

if TYPE_CHECKING:
    from torch import Tensor


class Grid(NamedTuple):
    """Latent frames, height and width of a video; `frames_first` where a pipeline orders (L, C, h, w)."""

    length: int
    height: int
    width: int
    frames_first: bool

    @classmethod
    def of(cls, pipe: Any, frames: int, width_px: int, height_px: int) -> Grid:
        """Return the grid on which a pipeline makes a video of that size."""
        time = _first(pipe, "vae_scale_factor_temporal", "vae_temporal_compression_ratio") or 4
        space = _first(pipe, "vae_scale_factor_spatial", "vae_spatial_compression_ratio") or 8
        frames_first = type(pipe).__name__.startswith("CogVideoX")
        return cls((frames - 1) // time + 1, height_px // space, width_px // space, frames_first)


def _first(pipe: Any, *names: str) -> int | None:
    return next((int(getattr(pipe, name)) for name in names if hasattr(pipe, name)), None)


@dataclass(frozen=True, slots=True)
class Caught:
    """What a pipeline held when its call was ended.

    Attributes:
        values: (L, C, h, w) float32 on the CPU: latents, or features of the tapped module.
        level: their noise level, 1 noise .. 0 finished.
        clean: the scheduler's estimate of finished latents, in the pipeline's own form; None when features were asked.
        steps: denoising steps done.
    """

    values: Tensor
    level: float
    clean: Tensor | None
    steps: int


class _EndedError(Exception):
    """Ends the pipeline's call."""


class _Watch:
    """One call: counts steps, knows the noise level, decides when enough is done."""

    def __init__(self, pipe: Any, handover: Handover, grid: Grid, *, estimate: bool) -> None:
        self._pipe, self._handover, self._grid = pipe, handover, grid
        self._estimate = estimate  # of the finished video, from the pass that would have been tapped
        self._done = 0
        self.caught: Caught | None = None

    def _armed(self) -> bool:
        return noise_level(self._pipe.scheduler, self._done) <= self._handover.level + 1e-6

    def listen(self, _module: Any, _inputs: Any, output: Any) -> None:
        """Hook of the tapped module."""
        if not self._armed():
            return
        tokens = first_tensor(output, self._handover.tap or "")[-1]  # words come after no words in a double batch
        level = noise_level(self._pipe.scheduler, self._done)
        self.caught = Caught(as_maps(tokens, self._grid, self._handover.tap), level, None, self._done)
        raise _EndedError

    def stepped(self, sample: Tensor, result: Any) -> None:
        """Look at what a step made."""
        scheduler, armed = self._pipe.scheduler, self._armed()
        now, self._done = self._done, self._done + 1
        level = noise_level(scheduler, self._done)
        if armed if self._estimate else level <= self._handover.level + 1e-6:
            finished = self._done >= len(scheduler.timesteps)
            clean = result[0] if finished else estimate_clean(scheduler, now, sample, result)
            self.caught = Caught(as_maps(result[0][0], self._grid, None), level, clean, self._done)
            raise _EndedError


def intercept(
    pipe: Any,
    call: Callable[[], Any],
    handover: Handover,
    grid: Grid,
    *,
    estimate: bool = False,
) -> Caught:
    """Run `call`, which calls `pipe`, as far as the handover asks.

    Args:
        pipe: the pipeline.
        call: runs it.
        handover: where to end.
        grid: of the latents of the video that is made.
        estimate: in place of tapped features, return the latents after the pass that would have been tapped.

    Raises:
        ConfigError: the tap is not there, or what it gives are no maps.
    """
    watch = _Watch(pipe, handover, grid, estimate=estimate)
    with ExitStack() as stack:
        if handover.tap and not estimate:
            handle = find_module(*_owner(pipe, handover.tap)).register_forward_hook(watch.listen)
            stack.callback(handle.remove)
        stack.enter_context(_stepping(pipe.scheduler, watch.stepped))
        with suppress(_EndedError):
            call()
    if watch.caught is None:
        raise ConfigError(
            f"tap {handover.tap!r}: expected a module that runs at noise level {handover.level:g}, found one that does "
            "not.",
            "Name another module, or another level.",
        )
    return watch.caught


def finish(pipe: Any, call: Callable[[], Any], clean: Tensor | None) -> Any:
    """Run `call`, which calls `pipe` for a single step, with `clean` in place of what the step makes.

    What a pipeline does after its last step, decoding above all, stays its own business.
    """
    with replaced_step(pipe.scheduler, lambda original: lambda *args, **kwargs: (clean, clean)):
        return call()


def check_tap(pipe: Any, tap: str) -> None:
    """Raise ConfigError when a pipeline has no module of that path, such as 'transformer.blocks.10'."""
    find_module(*_owner(pipe, tap))


def _owner(pipe: Any, tap: str) -> tuple[Any, str]:
    name, _, path = tap.partition(".")
    network = getattr(pipe, name, None) if name.startswith(("transformer", "unet")) else None
    if network is None or not path:
        raise ConfigError(
            f"tap: expected a path such as 'transformer.{_example(pipe)}', found {tap!r}.",
            "Begin with the name of the pipeline's transformer.",
        )
    return network, path


def _example(pipe: Any) -> str:
    names = (n for n, _ in getattr(pipe, "transformer", pipe.components.get("unet")).named_modules())
    return next((name for name in names if name.endswith(".0") and "block" in name), "blocks.0")


@contextmanager
def _stepping(scheduler: Any, look: Callable[[Any, Any], None]) -> Iterator[None]:
    def watched(original: Any) -> Any:
        @functools.wraps(original)  # pipelines ask for the arguments of `step`
        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            look(kwargs.get("sample", args[4] if len(args) > 4 else args[2]), result)
            return result

        return step

    with replaced_step(scheduler, watched):
        yield


@contextmanager
def replaced_step(scheduler: Any, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a scheduler's `step` inside the context; one that was replaced already comes back after it."""
    before = vars(scheduler).get("step")
    scheduler.step = wrap(scheduler.step)
    try:
        yield
    finally:
        if before is None:
            del scheduler.step
        else:
            scheduler.step = before


def noise_level(scheduler: Any, index: int) -> float:
    """Return the share of noise, noise / (noise + signal), before step `index`; after the last step it is 0.

    For flow matching this is the scheduler's sigma. Variance-exploding and variance-preserving ones are converted.
    """
    if index >= len(scheduler.timesteps):
        return 0.0  # some schedules end a little above, and what they end with is decoded all the same
    if hasattr(scheduler, "sigmas") and len(scheduler.sigmas) > len(scheduler.timesteps):
        sigma, largest = float(scheduler.sigmas[index]), float(scheduler.sigmas[0])
        return sigma if largest <= 1 else sigma / (1 + sigma)
    signal = float(scheduler.alphas_cumprod[int(scheduler.timesteps[index])])
    ratio = math.sqrt((1 - signal) / max(signal, 1e-12))
    return ratio / (1 + ratio)


def estimate_clean(scheduler: Any, index: int, sample: Tensor, result: Any) -> Tensor:
    """Return the finished latents as step `index`, from `sample` to `result`, saw them.

    Schedulers that estimate them say so: beside their result, or among their last outputs. Euler steps go straight
    towards the estimate, so it lies where their line meets noise level 0.
    """
    if isinstance(result, tuple) and len(result) > 1 and result[1] is not None:
        estimate: Tensor = result[1]
        return estimate
    outputs = getattr(scheduler, "model_outputs", None)
    if outputs and outputs[-1] is not None and scheduler.config.get("predict_x0", True):
        last: Tensor = outputs[-1]
        return last
    here, there = float(scheduler.sigmas[index]), float(scheduler.sigmas[index + 1])
    after: Tensor = result[0]
    if here == there:  # a last step that only repeats
        return after
    return after + (after - sample) * (there / (here - there))


def as_maps(values: Tensor, grid: Grid, tap: str | None) -> Tensor:
    """Return latents or tokens as maps (L, C, h, w), float32 on the CPU.

    Args:
        values: latents (C, L, h, w), (L, C, h, w) or packed (S, C); features (D, L, h, w) or (S, D).
        grid: of the whole video's latents; pipelines may keep the first frame aside.
        tap: the tapped module, or None for latents.

    Raises:
        ConfigError: tapped features lie on no grid.
    """
    values = values.detach().float().cpu()
    if values.ndim == 4:
        frames_first = grid.frames_first and tap is None
        return (values if frames_first else values.transpose(0, 1)).contiguous()
    if values.ndim == 2:
        grids = list(_token_grids(grid))
        fitting = [g for g in grids if math.prod(g) == len(values)]
        # What a pipeline adds as a condition comes before the tokens of the video.
        fitting += [g for g in grids[:1] if len(values) > math.prod(g)]
        if fitting:
            tokens = values[len(values) - math.prod(fitting[0]) :]
            return tokens.view(*fitting[0], -1).permute(0, 3, 1, 2).contiguous()
    raise ConfigError(
        f"tap {tap!r}: expected one vector for each place of a {grid.length}x{grid.height}x{grid.width} grid, found "
        f"shape {tuple(values.shape)}.",
        "Tap a transformer block.",
    )


def _token_grids(grid: Grid) -> Iterator[tuple[int, int, int]]:
    """Yield the grids of tokens that patches of 1 or 2 in time and 1, 2 or 4 in space make, the finest first."""
    for space, time in itertools.product((1, 2, 4), (1, 2)):
        if grid.height % space == 0 and grid.width % space == 0:
            yield -(-grid.length // time), grid.height // space, grid.width // space
