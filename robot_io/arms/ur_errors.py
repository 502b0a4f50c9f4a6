"""Why a UR cannot be used now, each with the step that is missing."""

from __future__ import annotations

from cascade.contracts.driver import Safety
from cascade.contracts.errors import DeviceError
from robot_io.arms.rtde_monitor import ROBOT_MODES, Sample

_REMEDIES = {
    Safety.PROTECTIVE_STOP: "Look why it stopped, unlock it at the pendant, then connect again.",
    Safety.ESTOP: "Release the emergency stop, power on and release the brakes at the pendant, then connect again.",
    Safety.VIOLATION: "See the safety message at the pendant and restart the safety system there, then connect again.",
    Safety.FAULT: "See the safety message at the pendant and restart the controller, then connect again.",
    Safety.SAFEGUARD_STOP: "Close the safeguard (door, light curtain), then try again.",
}


def stopped(host: str, safety: Safety) -> DeviceError:
    """The safety system does not allow motion."""
    found = safety.value.replace("_", " ")
    return DeviceError(f"{host}: expected normal safety, found: {found}.", _REMEDIES.get(safety, ""))


def not_powered(host: str, sample: Sample) -> DeviceError:
    """The arm has no power, or its brakes are on."""
    mode = ROBOT_MODES.get(sample.robot_mode, str(sample.robot_mode))
    return DeviceError(
        f"{host}: expected a powered arm with released brakes, found robot mode '{mode}'.",
        "Power on and release the brakes at the pendant, or set `power_on: true`.",
    )


def control_refused(host: str, error: Exception) -> DeviceError:
    """ur_rtde could not be connected although the ports answer."""
    if "in use" in str(error):
        return DeviceError(
            f"{host}: expected free RTDE registers, another client or a fieldbus has them.",
            "Close the other program, switch EtherNet/IP, PROFINET and MODBUS off, or set `registers: upper`.",
        )
    return DeviceError(f"{host}: ur_rtde could not connect: {error}.", "Try again; else restart the controller.")
