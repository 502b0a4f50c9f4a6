"""The built stages of a recipe, and whether they fit a rig."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from cascade.config import RecipeConfig
from cascade.contracts.errors import IncompatibleError, PluginError
from cascade.contracts.hardware import HardwareRig
from cascade.contracts.interfaces import ActionExtractor, Needs, Planner, PlanReader, Rig, Scorer
from cascade.plugins import build_plugin


@dataclass(frozen=True, slots=True)
class Stages:
    """The built stages of a recipe."""

    recipe: RecipeConfig
    planner: Planner
    extractor: ActionExtractor
    reader: PlanReader | None = None
    scorers: tuple[Scorer, ...] = ()

    @property
    def hand_reader(self) -> object:
        """Who reads the hand in a plan for a calibrated gate: the recipe's reader, or else the extractor."""
        return self.reader or self.extractor

    def close(self) -> None:
        """Let go of what stages hold (such as the oracle's own rig)."""
        with closing(self.planner), closing(self.extractor), closing(self.reader), ExitStack() as stack:
            for scorer in self.scorers:
                stack.enter_context(closing(scorer))


@contextmanager
def closing(stage: object) -> Iterator[None]:
    """Call the stage's `close` at the end, if it has one."""
    try:
        yield
    finally:
        close = getattr(stage, "close", None)
        if callable(close):
            close()


def build_stages(recipe: RecipeConfig) -> Stages:
    """Build planner, extractor, reader and scorers of a recipe; weights are loaded here.

    Raises:
        PluginError: a plug-in is unknown or broken, or the reader reads nothing.
        ConfigError: an option is wrong.
        WeightsError: weights are missing or corrupt.
    """
    planner = build_plugin("planner", recipe.planner.name, recipe.planner.options)
    extractor = build_plugin("extractor", recipe.extractor.name, recipe.extractor.options)
    reader = None
    if recipe.reader is not None:
        same = recipe.reader == recipe.extractor
        reader = extractor if same else build_plugin("extractor", recipe.reader.name, recipe.reader.options)
        if not isinstance(reader, PlanReader):
            raise PluginError(
                f"reader {recipe.reader.name!r}: expected an extractor that can read(plan, observation).",
                "Name another reader in the recipe, or none.",
            )
    scorers = tuple(build_plugin("scorer", scorer.name, scorer.options) for scorer in recipe.sampling.scorers)
    return Stages(recipe, planner, extractor, reader, scorers)


def check_compatible(rig: Rig, stages: Stages) -> None:
    """Compare what the stages want with what the rig has, before anything moves.

    Raises:
        IncompatibleError: names both sides of the first thing that does not fit.
    """
    recipe = stages.recipe
    named = [(f"planner {recipe.planner.name!r}", stages.planner.needs)]
    named.append((f"extractor {recipe.extractor.name!r}", stages.extractor.needs))
    reader: object = stages.reader
    if recipe.reader is not None and isinstance(reader, ActionExtractor):
        named.append((f"reader {recipe.reader.name!r}", reader.needs))
    named += [(f"scorer {scorer.measure.name!r}", scorer.needs) for scorer in stages.scorers]
    for stage, needs in named:
        check_needs(stage, needs, rig)
    here, there = stages.extractor.produces, rig.arm.spec.accepts
    difference = here.mismatch(there)
    if difference:
        raise IncompatibleError(
            f"extractor {recipe.extractor.name!r} and arm {rig.arm.spec.name!r} of rig {rig.name!r}: {difference}.",
            "Use an extractor whose actions the arm accepts.",
        )


def check_needs(stage: str, needs: Needs, rig: Rig) -> None:
    """Raise IncompatibleError when a rig does not give what a stage, named in words, needs of it."""
    for signal in ("depth", "segmentation", "extrinsics"):
        if getattr(needs, signal) and not getattr(rig.provides, signal):
            raise IncompatibleError(
                f"{stage} needs {signal} images and rig {rig.name!r} gives none."
                if signal != "extrinsics"
                else f"{stage} needs camera extrinsics and rig {rig.name!r} gives none.",
                remedy_for(signal, rig),
            )
    if needs.cameras is not None and not set(needs.cameras) & set(rig.cameras):
        raise IncompatibleError(
            f"{stage} knows the cameras {', '.join(needs.cameras)} and rig {rig.name!r} has {', '.join(rig.cameras)}.",
            "Add the camera to the rig's options, or name another in the stage's options.",
        )


def remedy_for(signal: str, rig: Rig) -> str:
    """Return what makes a rig provide a signal: what the rig says itself, or a general answer."""
    said = rig.missing(signal) if isinstance(rig, HardwareRig) else ""
    return said or f"Switch {signal} on in the rig's options, or use another recipe."
