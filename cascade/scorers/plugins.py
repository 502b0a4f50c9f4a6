"""Scorers that come with cascade (group `cascade.scorers`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cascade.contracts import ConfigError, PlanReader, PluginConfig, PluginSpec, Scorer


class ConsensusConfig(PluginConfig):
    """It has no options."""


class AgreementConfig(PluginConfig):
    """Options of the agreement of two readings."""

    second: str | None = Field(
        None, description="extractor plug-in to compare with; default: the reading that came with the plan"
    )
    options: dict[str, object] = Field(default_factory=dict, description="options of that extractor")


class PhysicalConfig(PluginConfig):
    """What is still believable; the score is the worst cue as a multiple of these."""

    drift_px: float = Field(1.0, gt=0, description="movement of the background [px]")
    step_m: float = Field(0.1, gt=0, description="way of the hand between two of 33 points along its path [m]")
    lost_share: float = Field(0.6, gt=0, le=1, description="share of tracked corners that are lost")


class FirstFrameConfig(PluginConfig):
    """It has no options."""


class ProgressConfig(PluginConfig):
    """Options of the progress score."""

    reader: str = Field("idm", description="extractor plug-in that reads progress in plans that do not bring it")
    options: dict[str, object] = Field(default_factory=dict, description="options of that extractor")


class ValueConfig(PluginConfig):
    """Options of the learned value."""

    weights: Path | None = Field(None, description="folder that `cascade train value` wrote; default: the shipped one")
    last: int = Field(3, ge=1, le=16, description="last frames whose mean is taken")


class VlmConfig(PluginConfig):
    """Options of the vision-language judge."""

    model: str | None = Field(None, description="folder of an image-text-to-text model, or hub id")
    question: str = Field(
        "These pictures show a robot's plan to {instruction}. Is the task done in the last one? Answer Yes or No.",
        description="what it is asked; contains {instruction}",
    )
    frames: int = Field(2, ge=1, le=16, description="frames of the plan that it is shown")
    yes: str = Field("Yes", description="answer that counts as yes")
    no: str = Field("No", description="answer that counts as no")
    device: str = Field("cpu", description="torch device")
    local_files_only: bool = Field(True, description="false: download what is not in the local cache")


def _consensus(options: ConsensusConfig) -> Scorer:
    from cascade.scorers.consensus import Consensus

    return Consensus()


def _agreement(options: AgreementConfig) -> Scorer:
    from cascade.plugins import build_plugin
    from cascade.scorers.agreement import ExtractorAgreement

    second = build_plugin("extractor", options.second, options.options) if options.second else None
    return ExtractorAgreement(second)


def _physical(options: PhysicalConfig) -> Scorer:
    from cascade.scorers.physical import PhysicalCues

    return PhysicalCues(drift_px=options.drift_px, step_m=options.step_m, lost_share=options.lost_share)


def _first_frame(options: FirstFrameConfig) -> Scorer:
    from cascade.scorers.physical import FirstFrame

    return FirstFrame()


def _progress(options: ProgressConfig) -> Scorer:
    from cascade.plugins import build_plugin
    from cascade.scorers.progress import EvenProgress

    reader = build_plugin("extractor", options.reader, options.options)
    if not isinstance(reader, PlanReader):
        raise ConfigError(f"scorer 'progress': extractor {options.reader!r} reads no plans.", "Use idm.")
    return EvenProgress(reader)


def _value(options: ValueConfig) -> Scorer:
    from cascade.scorers.value import LearnedValue
    from cascade.value.model import SHIPPED, ValueModel

    return LearnedValue(ValueModel.load(options.weights or SHIPPED), last=options.last)


def _vlm(options: VlmConfig) -> Scorer:
    from cascade.scorers.vlm import VisionLanguageJudge

    if options.model is None:
        raise ConfigError("scorer 'vlm': expected the option `model`, found none.", "Name a folder of such a model.")
    return VisionLanguageJudge(
        options.model,
        question=options.question,
        frames=options.frames,
        yes=options.yes,
        no=options.no,
        device=options.device,
        local_files_only=options.local_files_only,
    )


CONSENSUS: PluginSpec[Scorer] = PluginSpec("distance to the other samples", ConsensusConfig, _consensus)
AGREEMENT: PluginSpec[Scorer] = PluginSpec("do two readings of the plan agree", AgreementConfig, _agreement)
PHYSICAL: PluginSpec[Scorer] = PluginSpec("drift, jumps and lost texture", PhysicalConfig, _physical)
FIRST_FRAME: PluginSpec[Scorer] = PluginSpec("frame 0 against the camera", FirstFrameConfig, _first_frame)
PROGRESS: PluginSpec[Scorer] = PluginSpec("does the task go on evenly", ProgressConfig, _progress)
VALUE: PluginSpec[Scorer] = PluginSpec("how far along is the task, by a small network", ValueConfig, _value)
VLM: PluginSpec[Scorer] = PluginSpec("a vision-language model is asked", VlmConfig, _vlm)
