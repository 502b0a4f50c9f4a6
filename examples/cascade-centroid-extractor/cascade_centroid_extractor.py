"""An extractor that sends the arm after the centre of whatever differs from the plan's first frame."""

import numpy as np
from pydantic import Field
from scipy.spatial.transform import Rotation

from cascade.contracts import ActionChunk, ActionSpace, DataError, Needs, PluginConfig, PluginSpec


class CentroidConfig(PluginConfig):
    threshold: float = Field(40.0, ge=0, description="smallest change of a pixel that counts [grey levels]")
    step_s: float = Field(0.25, gt=0, description="nominal time between targets [s]")


class CentroidExtractor:
    needs = Needs(extrinsics=True)
    produces = ActionSpace()

    def __init__(self, config):
        self.config = config
        self._finished = None

    def extract(self, plan, observation):
        image, arm = observation.image(plan.camera), observation.arm
        if image.T_base_cam is None:
            raise DataError(f"camera {plan.camera!r}: expected extrinsics, found none.", "Calibrate the camera.")
        targets = [] if plan.plan_id == self._finished else self._targets(plan, image, arm)
        self._finished = plan.plan_id  # the whole plan leaves in one chunk, so a second call has nothing to add
        x, y, z, w = Rotation.from_matrix(arm.T_base_ee[:3, :3]).as_quat()  # the hand keeps its orientation
        return ActionChunk(
            values=np.array([[*xyz, w, x, y, z] for xyz in targets]).reshape(-1, 7),
            gripper=np.full(len(targets), arm.gripper_opening),
            times_s=self.config.step_s * np.arange(1, len(targets) + 1),
            space=self.produces,
            final=True,
            provenance={"extractor": "centroid", "plan_id": plan.plan_id},
        )

    def _targets(self, plan, image, arm):
        K = plan.transform.intrinsics(image.K)
        start = (np.linalg.inv(image.T_base_cam) @ arm.T_base_ee[:, 3])[:3]
        change = np.abs(plan.frames.astype(float) - plan.frames[0]).sum(axis=-1)
        change[change < self.config.threshold] = 0
        v, u = np.mgrid[: change.shape[1], : change.shape[2]] + 0.5
        targets, centre = [], (K @ start)[:2] / start[2]
        for weight in change[1:]:
            if weight.sum() > 0:  # a frame without change says: stay where the last one led
                centre = np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()
            ray = np.linalg.solve(K, [*centre, 1.0])  # the hand keeps its distance from the camera
            targets.append((image.T_base_cam @ [*(ray * start[2]), 1.0])[:3])
        return targets


CENTROID = PluginSpec("follows the centre of what changes in the plan", CentroidConfig, CentroidExtractor)
