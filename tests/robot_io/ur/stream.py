"""Runs a driver in a process of its own, as an arm process does, and says on a pipe how it ended.

Arguments: address, silence_s, 'exit' to end at once when the link is lost or 'linger' to stay for a second, the pipe
(standard output belongs to ur_rtde).
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

from cascade.contracts.errors import DeviceError
from robot_io.arms.ur import URDriver
from robot_io.arms.ur_config import URConfig

UP = np.array([0.0, 0, 1, 0, 0, 0, 0])
HALF_TURN = np.array([0.0, 0.70710678, 0.70710678, 0.0])  # the tool at home, quaternion wxyz


def main(host: str, silence_s: str, ending: str, pipe: str) -> None:
    def say(**what: object) -> None:
        os.write(int(pipe), json.dumps(what).encode() + b"\n")

    driver = URDriver(URConfig(host=host, silence_s=float(silence_s)))
    driver.connect(5.0)
    driver.arm()
    reading = driver.read()
    assert reading.T_base_ee is not None
    start = reading.T_base_ee[:3, 3].copy()
    say(armed=time.monotonic())
    stamps, step = {reading.t_dev_s}, 0
    try:
        while True:
            reading = driver.read()
            stamps.add(reading.t_dev_s)
            step += 1
            driver.send(np.concatenate([start, HALF_TURN]) + 0.0002 * step * UP, None)
            if step % 25 == 0:
                say(running=reading.running, stamps=len(stamps))
            time.sleep(0.008)
    except DeviceError as error:
        say(lost=time.monotonic(), message=str(error))
    begun = time.monotonic()
    driver.close()  # bounded, and asks nothing of ur_rtde
    say(closed_in=time.monotonic() - begun)
    if ending == "linger":
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
