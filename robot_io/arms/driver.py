"""The protocol between arm process and driver, under the name it has among the drivers.

It is defined in `cascade.contracts.driver`, so that a driver in a package of its own needs nothing else of ours.
"""

from __future__ import annotations

from cascade.contracts.driver import ArmDriver, DeviceFault, DriverInfo, Reading, Safety, Takes

__all__ = ["ArmDriver", "DeviceFault", "DriverInfo", "Reading", "Safety", "Takes"]
