"""The Sawyer's pads, as the simulator draws them, tell where its hand is."""

import numpy as np
import pytest

from cascade.config import load_rig
from cascade.plugins import build_plugin
from cascade.suites import find_suite, suite_settings
from flowact.finger_pads import SAWYER, read_pads


def test_the_hand_is_found_by_its_pads_in_rendered_views():
    suite = find_suite("metaworld-11-avdc")
    settings = [text.removeprefix("rig.") for text in suite_settings(suite) if text.startswith("rig.")]
    options = {**load_rig("sim", settings).options, "cameras": list(suite.cameras), "depth": False}
    with build_plugin("rig", "sim", options) as rig:
        rig.reset(task="basketball", seed=101)
        observation = rig.observe()
    images = {camera: observation.image(camera) for camera in suite.cameras}
    position, opening = read_pads(
        {name: image.rgb[None] for name, image in images.items()},
        {name: image.K for name, image in images.items()},
        {name: image.T_base_cam for name, image in images.items()},
        SAWYER,
    )
    assert np.linalg.norm(position[0] - observation.arm.position_m) < 0.015
    assert opening[0] == pytest.approx(observation.arm.gripper_opening, abs=0.15)
