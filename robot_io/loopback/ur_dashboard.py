"""The dashboard port of the emulated UR controller: one line asked, one line answered.

Source of the wording: Universal Robots, "Dashboard Server e-Series" (PolyScope 5.11).
"""

from __future__ import annotations

from typing import Protocol

from robot_io.loopback.ur_rtde_server import VERSION
from robot_io.loopback.ur_script import ControlProgram
from robot_io.loopback.ur_world import ROBOT_MODES, World

GREETING = b"Connected: Universal Robots Dashboard Server\n"

_REMOTE_ONLY = (
    "power on",
    "power off",
    "brake release",
    "play",
    "stop",
    "pause",
    "load",
    "unlock protective stop",
    "restart safety",
)


class HasProgram(Protocol):
    """What a dashboard acts on: a world, perhaps a program, and the time that a protective stop takes."""

    world: World
    program: ControlProgram | None
    unlock_after_s: float


def answer(line: str, controller: HasProgram) -> str:
    """Return the dashboard's answer to one command."""
    world, command = controller.world, line.strip().lower()
    if not world.remote and command.startswith(_REMOTE_ONLY):
        return "Command is not allowed in local mode"
    version = ".".join(str(part) for part in VERSION)
    playing = controller.program is not None and controller.program.runtime_state == 2
    known = {
        "polyscopeversion": f"URSoftware {version} (Oct 26 2021)",
        "version": f"URSoftware {version} (Oct 26 2021)",
        "get serial number": "20215500001",
        "get robot model": world.model.upper().rstrip("E"),
        "robotmode": f"Robotmode: {ROBOT_MODES[world.robot_mode]}",
        "is in remote control": "true" if world.remote else "false",
        "get operational mode": "AUTOMATIC",
        "safetymode": f"Safetymode: {_safety(world)}",
        "safetystatus": f"Safetystatus: {_safety(world)}",
        "programstate": f"{'PLAYING' if playing else 'STOPPED'} cascade.urp",
        "running": f"Program running: {'true' if playing else 'false'}",
        "get loaded program": "No program loaded",
        "isprogramsaved": "true cascade.urp",
        "close safety popup": "closing safety popup",
        "close popup": "closing popup",
        "quit": "Disconnected",
    }
    if command in known:
        return known[command]
    return _act(command, controller)


def _safety(world: World) -> str:
    names = {1: "NORMAL", 2: "REDUCED", 3: "PROTECTIVE_STOP", 5: "SAFEGUARD_STOP", 7: "ROBOT_EMERGENCY_STOP"}
    return names.get(world.safety_mode, {8: "VIOLATION", 9: "FAULT"}.get(world.safety_mode, "NORMAL"))


def _act(command: str, controller: HasProgram) -> str:
    world = controller.world
    match command:
        case "stop":
            if controller.program is not None:
                controller.program.end("stopped from the dashboard")
            return "Stopped"
        case "power on":
            if world.stops & {"emergency_stop", "violation", "fault"}:
                return "Failed to execute: power on"
            world.robot_mode = max(world.robot_mode, 5)
            return "Powering on"
        case "brake release":
            if world.stops & {"emergency_stop", "violation", "fault"}:
                return "Failed to execute: brake release"
            world.robot_mode = 7
            return "Brake releasing"
        case "power off":
            world.robot_mode = 3
            return "Powering off"
        case "restart safety":
            world.stops -= {"violation", "fault"}
            world.robot_mode = 3
            return "Restarting safety"
        case "unlock protective stop":
            if world.time_s - world.stopped_at_s < controller.unlock_after_s:
                return (
                    "Cannot unlock protective stop until 5s after occurrence. "
                    "Always inspect cause of protective stop before unlocking"
                )
            world.set_stop("protective_stop", False)
            return "Protective stop releasing"
        case _ if command.startswith(("popup ", "addtolog ", "setuserrole ")):
            return "ok"
        case _:
            return f"could not understand: '{command}'"
