"""What a rig tells about the machine it drives, so that a person can agree to its motion. Optional for rigs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine that can hurt somebody.

    Attributes:
        arm: what it is, such as 'ur ur5e'.
        address: where it is: a host, or a serial port.
        home: what `Rig.reset` will do with it, in words; empty when it stays where it is.
    """

    arm: str
    address: str
    home: str = ""


@runtime_checkable
class HardwareRig(Protocol):
    """A rig that may drive a real arm. A rig without these members is a simulation and moves at once."""

    @property
    def hardware(self) -> Hardware | None:
        """The machine, or None when nothing real is behind this rig (a loopback controller, a virtual arm)."""
        ...

    def permit_motion(self) -> None:
        """Let the arm be armed; called after a person agreed. Without it the arm is read and never armed."""
        ...

    def ready(self) -> None:
        """Arm the arm if it stands unarmed and motion is permitted; called right before motion, after any consent.

        Raises:
            DeviceError: it is in fault, or motion was not permitted.
        """
        ...

    def missing(self, signal: str) -> str:
        """Return why 'depth', 'segmentation' or 'extrinsics' is not provided, and the remedy."""
        ...
