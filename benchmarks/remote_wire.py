"""What the wire to a remote planner costs: round trips to a server process whose planner takes no time.

python benchmarks/remote_wire.py --calls 2000 --json runs/remote_wire.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import ArmState, CameraImage, ImageTransform, Needs, Observation, VideoPlan
from cascade.statistics import percentiles
from planner.remote.options import RemoteConfig
from planner.remote.planner import RemotePlanner

SIZE_PX, FRAMES = 128, 17


class Instant:
    """A planner that takes no time: a plan of 17 frames of 128 x 128 that was ready before."""

    def __init__(self) -> None:
        """Make the frames once."""
        rng = np.random.default_rng(0)
        self._frames = rng.integers(0, 255, (FRAMES, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)

    @property
    def needs(self) -> Needs:
        """One camera."""
        return Needs(cameras=("corner",))

    def plan(self, observation: Observation, instruction: str, **_: Any) -> list[VideoPlan]:
        """Return the plan."""
        transform = ImageTransform.centre_square(SIZE_PX, SIZE_PX, SIZE_PX)
        return [VideoPlan(instruction=instruction, camera="corner", transform=transform, frames=self._frames)]


def serve(ready: Any) -> None:
    """Run the server (in a process of its own)."""
    from cascade.serving import PlanServer, Served

    server = PlanServer(Served(name="instant", planner=Instant()), port=0)
    ready.send(server.address)
    server.run()


def observation() -> Observation:
    """Return what a robot sends: one image of 128 x 128 and its state."""
    rgb = np.random.default_rng(1).integers(0, 255, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    image = CameraImage(rgb=rgb, K=np.eye(3), T_base_cam=np.eye(4), stamp_s=0.0)
    arm = ArmState(q=np.zeros(7), T_base_ee=np.eye(4), gripper_opening=1.0, stamp_s=0.0)
    return Observation(images={"corner": image}, arm=arm)


def measure(calls: int) -> dict[str, Any]:
    """Return milliseconds of a round trip over the wire, and of the same call in this process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    remote, local, seen = RemotePlanner(RemoteConfig(url=ours.recv())), Instant(), observation()
    times: dict[str, list[float]] = {"remote": [], "local": []}
    try:
        for index in range(calls + 20):
            for name, planner in (("remote", remote), ("local", local)):
                began = time.perf_counter()
                planner.plan(seen, "open the door", seed=index)
                if index >= 20:  # the first calls connect and warm up
                    times[name].append((time.perf_counter() - began) * 1e3)
    finally:
        remote.close()
        process.kill()
    return {"machine": platform.processor() or platform.machine(), "calls": calls} | {
        f"{name}_ms": percentiles(values) | {"max": round(max(values), 3)} for name, values in times.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.calls)
    for name in ("remote", "local"):
        found = result[f"{name}_ms"]
        print(f"{name:7} p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f} ms, max {found['max']:.2f} ms")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
