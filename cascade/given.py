"""The extractor that reads nothing: the motion came with the plan (joint world-action models, policies)."""

from __future__ import annotations

from cascade.contracts.errors import IncompatibleError
from cascade.contracts.interfaces import ActionExtractor, Needs
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.contracts.records import ActionChunk, ActionSpace, Observation, VideoPlan


class GivenConfig(PluginConfig):
    """It has no options."""


class GivenExtractor:
    """Hands on the chunk that its generator put into the plan; the same gate stands before the arm."""

    @property
    def needs(self) -> Needs:
        """Nothing of the rig."""
        return Needs()

    @property
    def produces(self) -> ActionSpace:
        """Absolute end-effector poses."""
        return ActionSpace()

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the plan's own actions.

        Raises:
            IncompatibleError: the plan has none.
        """
        if plan.actions is None:
            maker = plan.provenance.get("planner", "the planner")
            raise IncompatibleError(
                f"extractor 'given': expected a plan that says its own motion, found one of {maker} that does not.",
                "Use it with a planner that gives actions, such as a remote policy; else idm or flow.",
            )
        return plan.actions


def _build(config: GivenConfig) -> ActionExtractor:
    return GivenExtractor()


GIVEN: PluginSpec[ActionExtractor] = PluginSpec("The motion that came with the plan", GivenConfig, _build)
