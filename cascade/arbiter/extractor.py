"""The extractor that asks two others, compares what they say of a plan, and follows one of them or both."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.arbiter.comparison import compare, corrected
from cascade.arbiter.decision import CONFIDENT_STD_M, Decision, decide, only
from cascade.arbiter.options import ArbiterConfig
from cascade.arbiter.statements import closing, hand_says, object_says
from cascade.contracts import (
    ActionChunk,
    ActionExtractor,
    ActionSpace,
    CascadeError,
    DataError,
    DeviceError,
    EeReadout,
    EpisodeAware,
    IncompatibleError,
    Needs,
    Observation,
    OperatorStop,
    PlanReader,
    PlanWatcher,
    VideoPlan,
    Watched,
)

REMEMBERED = 4  # plans whose decision is kept


@dataclass(slots=True)
class _Case:
    """One plan: as it was shown to the two, what was decided, and where the hand closes, once it has."""

    plan: VideoPlan
    decision: Decision
    chosen: ActionExtractor
    first: ActionChunk | None
    closed_m: NDArray[np.float64] | None = None


class Arbiter:
    """Asks an extractor of the hand and one of the object for every new plan; later chunks come from who was chosen.

    Args:
        hand: reads the hand's path; its `read` is shown to the other one where it has one.
        thing: reads the object's motion.
        config: from when on two answers count as different.
    """

    def __init__(self, hand: ActionExtractor, thing: ActionExtractor, config: ArbiterConfig) -> None:
        difference = hand.produces.mismatch(thing.produces)
        if difference is not None:
            raise IncompatibleError(
                f"arbiter: {config.hand.name!r} and {config.object.name!r} differ: {difference}.",
                "Name two extractors that give the same kind of actions.",
            )
        self._hand, self._object, self._config = hand, thing, config
        self._cases: OrderedDict[str, _Case] = OrderedDict()
        self._readouts: OrderedDict[str, EeReadout] = OrderedDict()
        self._followed: _Case | None = None

    @property
    def needs(self) -> Needs:
        """What neither can do without: where the rig has what one of them needs, that one is followed."""
        a, b = self._hand.needs, self._object.needs
        cameras = None if a.cameras is None or b.cameras is None else tuple(dict.fromkeys((*a.cameras, *b.cameras)))
        return Needs(
            depth=a.depth and b.depth,
            segmentation=a.segmentation and b.segmentation,
            extrinsics=a.extrinsics and b.extrinsics,
            latent_space=a.latent_space if a.latent_space == b.latent_space else None,
            cameras=cameras,
        )

    @property
    def produces(self) -> ActionSpace:
        """As both of them."""
        return self._hand.produces

    @property
    def watch_hz(self) -> float | None:
        """As the extractor that is followed; None where it does not look on."""
        chosen = self._followed.chosen if self._followed is not None else None
        return chosen.watch_hz if isinstance(chosen, PlanWatcher) else None

    def watch(self, plan: VideoPlan, observation: Observation) -> Watched:
        """Pass on a look to the extractor that is followed."""
        case = self._cases.get(plan.plan_id)
        if case is None or not isinstance(case.chosen, PlanWatcher):
            return Watched(verdict="on")
        return case.chosen.watch(case.plan, observation)

    def begin(self, *, task: str, seed: int) -> None:
        """Tell both which episode begins, where they want to know."""
        for stage in (self._hand, self._object):
            if isinstance(stage, EpisodeAware):
                stage.begin(task=task, seed=seed)

    def close(self) -> None:
        """Let go of both."""
        for stage in (self._hand, self._object):
            close = getattr(stage, "close", None)
            if callable(close):
                close()

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return the hand's reading; read once per plan.

        Raises:
            IncompatibleError: the hand's extractor does not read plans, or cannot read this one.
        """
        if not isinstance(self._hand, PlanReader):
            raise IncompatibleError(
                f"arbiter: expected a hand extractor that reads plans, found {self._config.hand.name!r}.",
                "Name another with `hand`, or another reader in the recipe.",
            )
        found = self._readouts.get(plan.plan_id)
        if found is None:
            found = self._hand.read(plan, observation)
            _keep(self._readouts, plan.plan_id, found)
        return found

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the next targets of whom the plan was given to; a new plan is given to one of the two, or to both.

        Raises:
            DataError: neither can read the plan; both reasons are named.
        """
        case = self._cases.get(plan.plan_id)
        if case is None:
            case = self._hear(plan, observation)
            _keep(self._cases, plan.plan_id, case)
        self._followed = case
        chunk, case.first = case.first, None
        if chunk is None:
            chunk = case.chosen.extract(case.plan, observation)
        return self._passed_on(chunk, case, observation)

    def _hear(self, plan: VideoPlan, observation: Observation) -> _Case:
        """Ask both about a new plan and decide."""
        observation.image(plan.camera)
        shown, readout = self._with_reading(plan, observation)
        by_hand = _asked(self._hand, shown, observation)
        by_object = _asked(self._object, shown, observation)
        if isinstance(by_object, CascadeError):
            if isinstance(by_hand, CascadeError):
                raise DataError(
                    f"arbiter: expected a plan that {self._config.hand.name!r} or {self._config.object.name!r} can "
                    f"read, found neither: {by_hand.problem} {by_object.problem}",
                    by_hand.fix or by_object.fix,
                ) from by_object
            return _Case(shown, only("hand", by_object.problem), self._hand, first=by_hand)
        if isinstance(by_hand, CascadeError):
            return _Case(shown, only("object", by_hand.problem), self._object, by_object)
        hand = hand_says(by_hand, readout, observation, CONFIDENT_STD_M)
        thing = object_says(by_object, shown, observation, self._config.object_std_m)
        decision = decide(hand, thing, compare(hand, thing, shown, observation, self._config))
        if decision.chosen == "hand":
            return _Case(shown, decision, self._hand, by_hand)
        return _Case(shown, decision, self._object, by_object)

    def _with_reading(self, plan: VideoPlan, observation: Observation) -> tuple[VideoPlan, EeReadout | None]:
        """Return the plan with the hand's reading on it, so that nothing is read twice and the other may use it."""
        try:
            readout = self.read(plan, observation)
        except (OperatorStop, DeviceError):
            raise
        except CascadeError:
            return plan, plan.readout
        return plan.with_readout(readout), readout

    def _passed_on(self, chunk: ActionChunk, case: _Case, observation: Observation) -> ActionChunk:
        """Return a chunk with the correction, the confidence and the reasons of the decision."""
        decision, values = case.decision, chunk.values
        if decision.shift_m is not None and decision.chosen == "hand":
            if case.closed_m is None:
                at = closing(chunk, observation.arm.gripper_opening)
                case.closed_m = None if at is None else chunk.values[at, :3].copy()
            if case.closed_m is not None:
                values = corrected(values, case.closed_m, np.array(decision.shift_m))
        trust = np.ones(len(chunk)) if chunk.confidence is None else chunk.confidence
        told: dict[str, Any] = {**chunk.provenance, "arbiter": decision.values()}
        return replace(
            chunk,
            values=values,
            confidence=np.clip(decision.trust * (1 - (1 - trust) * (1 - decision.sure)), 0.0, 1.0),
            provenance=told,
        )


def _asked(extractor: ActionExtractor, plan: VideoPlan, observation: Observation) -> ActionChunk | CascadeError:
    """Return the first targets of an extractor, or why it has none."""
    try:
        return extractor.extract(plan, observation)
    except (OperatorStop, DeviceError):
        raise  # no fault of the plan's
    except CascadeError as error:
        return error


def _keep(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    while len(known) > REMEMBERED:
        known.popitem(last=False)
