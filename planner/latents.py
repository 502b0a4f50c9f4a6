"""What a planner may hand on in place of a finished video: latents at a noise level, or what one of its layers makes.

Control that reads latents needs neither the last denoising steps nor a pixel. Partly denoised latents are what
mimic-video (arXiv 2512.15692) reads, the hidden states of a single pass what VPP (arXiv 2412.14803) reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.contracts.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """At which noise level a planner stops, and where in its network it is listened to.

    Attributes:
        stop_at: noise level at which denoising ends; 1 is noise, 0 a finished video. None: 0, or with a tap 1.
        tap: path of the module whose output is handed on, in one pass at that level; None: the latents themselves.
    """

    stop_at: float | None = None
    tap: str | None = None

    @property
    def level(self) -> float:
        """Noise level of what is handed on."""
        return (1.0 if self.tap else 0.0) if self.stop_at is None else self.stop_at

    def space(self, model: str, weights: str, level: float | None = None) -> str:
        """Return the name of the latent space: model, digest of its weights, what is read, and at which level."""
        at = self.level if level is None else level
        what = f"/{self.tap or 'latent'}@{at:.3g}" if self.tap or at > 0 else ""
        return f"{model}/{weights[:12]}{what}"


class _HeardError(Exception):
    """Ends a pass early: what comes after the tap is not needed."""


def listen(network: nn.Module, path: str, run: Callable[[], object]) -> Tensor:
    """Run a pass of `network` as far as the module at `path` and return the first tensor that module gives.

    Raises:
        ConfigError: there is no such module, the pass does not come by it, or it gives no tensor.
    """
    heard: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        heard.append(first_tensor(output, path))
        raise _HeardError

    handle = find_module(network, path).register_forward_hook(hook)
    try:
        run()
    except _HeardError:
        return heard[0]
    finally:
        handle.remove()
    raise ConfigError(
        f"tap {path!r}: expected a module that every pass runs through, found one that is not called.",
        "Name another module.",
    )


def find_module(network: nn.Module, path: str) -> nn.Module:
    """Return a module by its path; raises ConfigError naming a likely one."""
    modules = dict(network.named_modules())
    if path not in modules or not path:
        raise ConfigError(
            f"tap: {type(network).__name__} has no module {path!r}.", did_you_mean(path, set(modules) - {""})
        )
    module: nn.Module = modules[path]
    return module


def first_tensor(output: Any, path: str) -> Tensor:
    """Return the (first) tensor that the module at `path` gave; raises ConfigError when there is none."""
    import torch

    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise ConfigError(
            f"tap {path!r}: expected a module that gives a tensor, found {type(output).__name__}.",
            "Name another module.",
        )
    return output.detach()
