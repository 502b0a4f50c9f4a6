"""`python -m robot_io.loopback NAME`: start one emulated controller by hand; it says how to connect."""

from __future__ import annotations

import sys
from importlib import import_module

LOOPBACKS = {
    "ur3e": "robot_io.loopback.ur:serve",
    "ur5e": "robot_io.loopback.ur:serve",
    "ur10e": "robot_io.loopback.ur:serve",
    "xarm6": "robot_io.loopback.xarm:serve",
    "xarm7": "robot_io.loopback.xarm:serve",
    "fr3": "robot_io.loopback.franka:serve",
    "robotiq": "robot_io.loopback.robotiq:serve",
    "so101": "robot_io.loopback.servo_bus_serve:serve",
    "dynamixel": "robot_io.loopback.servo_bus_serve:serve",
}
"""Name -> `module:function`, a function `(name, arguments) -> exit code` that serves until Ctrl-C."""


def main(arguments: list[str]) -> int:
    """Start what the first argument names."""
    if not arguments or arguments[0] not in LOOPBACKS:
        wanted = f"'{arguments[0]}' is not one of them" if arguments else "none was named"
        print(f"Expected the name of an emulated controller; {wanted}. Known: {', '.join(LOOPBACKS)}.", file=sys.stderr)  # noqa: T201
        return 2
    module, _, function = LOOPBACKS[arguments[0]].partition(":")
    result: int = getattr(import_module(module), function)(arguments[0], arguments[1:])
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
