"""How an arm process is run: rate, times after which it stops, scheduling."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.contracts.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Settings of an arm process; the defaults are for a real arm.

    Attributes:
        rate_hz: control cycles per second; None: what the driver wants.
        ttl_s: how long a target holds after it was sent, and a schedule after its last target.
        disarm_s: time in HOLD after which the arm is disarmed; None: never.
        caller_s: time without a heartbeat of the caller after which motion stops; None: not watched.
        scheduling: best scheduling to ask for: 'fifo', 'nice' or 'plain'.
        lockstep: cycles run when the caller says so, in the caller's time (a simulated world that waits).
        speed_scale: share of the speed limit to use, 0..1 (the operator's `--speed`).
        observed_age_s: how old the observation behind a target may be.
        clamp: move targets outside the workspace to its wall, instead of refusing them.
        simulated: nothing can be hurt: the built-in caps of real arms do not apply.
    """

    rate_hz: float | None = None
    ttl_s: float = 0.1
    disarm_s: float | None = 2.0
    caller_s: float | None = 0.3
    scheduling: str = "fifo"
    lockstep: bool = False
    speed_scale: float = 1.0
    observed_age_s: float = 1.0
    clamp: bool = True
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 10 <= self.rate_hz <= 500:
            raise ConfigError(f"rate_hz: expected 10 to 500, found {self.rate_hz}.")
        for name in ("ttl_s", "disarm_s", "caller_s", "observed_age_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected a positive number, found {value}.")
        if self.scheduling not in ("fifo", "nice", "plain"):
            raise ConfigError(f"scheduling: expected 'fifo', 'nice' or 'plain', found {self.scheduling!r}.")
        if not 0 < self.speed_scale <= 1:
            raise ConfigError(f"speed_scale: expected a number above 0 and up to 1, found {self.speed_scale}.")
