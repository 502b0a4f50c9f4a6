"""What is known of each family of image-to-video pipelines: legal sizes, defaults, and how its call is written.

Numbers are the defaults of the pipelines in diffusers 0.42 and of the publishers' examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cascade.contracts.errors import ConfigError, did_you_mean
from planner.diffusers_planner.options import AdapterConfig

WAN_NEGATIVE = (
    "overexposed, static, blurred details, subtitles, worst quality, low quality, jpeg artefacts, deformed, "
    "disfigured, still picture, messy background, camera motion"
)
PLAIN_NEGATIVE = "worst quality, inconsistent motion, blurry, jittery, distorted, camera motion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of image-to-video pipeline.

    Attributes:
        name: name in provenance and error messages.
        pipeline: class name in diffusers.
        frame_step: legal frame counts are frame_step * k + 1.
        multiple_px: width and height are multiples of this.
        width_px, height_px, num_frames: native size of a video.
        fixed_size: the model works at its native size only, such as one with learned positions.
        steps, guidance, negative_prompt: defaults.
        guidance_argument: argument of the call that takes the guidance, or None.
        fps: frames per second of the videos it was trained on, or None when unknown.
        fps_argument: argument of the call that takes them, or None.
        image: how the first frame is given: as one argument, as conditions with frame indices, or as a one-frame video.
        image_argument: name of that argument.
        goal_argument: argument that takes a last frame, 'conditions', or None.
        needs_goal: it only fills in between a first and a last frame.
        takes_negative, takes_size: whether the call has these arguments.
        caches_prompt: whether the text can be encoded without the image, once per sentence.
        full_precision: components that stay in float32 whatever the arithmetic.
    """

    name: str
    pipeline: str
    frame_step: int
    multiple_px: int
    width_px: int
    height_px: int
    num_frames: int
    steps: int
    guidance: float
    fps: float | None
    fixed_size: bool = False
    negative_prompt: str = PLAIN_NEGATIVE
    guidance_argument: str | None = "guidance_scale"
    fps_argument: str | None = None
    image: Literal["argument", "conditions", "video"] = "argument"
    image_argument: str = "image"
    goal_argument: str | None = None
    needs_goal: bool = False
    takes_negative: bool = True
    takes_size: bool = True
    caches_prompt: bool = True
    full_precision: tuple[str, ...] = ()


WAN21 = Family(
    name="wan21-i2v",
    pipeline="WanImageToVideoPipeline",
    frame_step=4,
    multiple_px=16,
    width_px=832,
    height_px=480,
    num_frames=81,
    steps=50,
    guidance=5.0,
    fps=16.0,
    negative_prompt=WAN_NEGATIVE,
    full_precision=("vae", "image_encoder"),
)
WAN21_FLF = replace(WAN21, name="wan21-flf2v", goal_argument="last_image", needs_goal=True)
WAN22_A14B = replace(
    WAN21, name="wan22-i2v-a14b", steps=40, guidance=3.5, goal_argument="last_image", full_precision=("vae",)
)
WAN22_TI2V = replace(
    WAN22_A14B,
    name="wan22-ti2v",
    multiple_px=32,
    width_px=1280,
    height_px=704,
    num_frames=121,
    steps=50,
    guidance=5.0,
    fps=24.0,
    goal_argument=None,
)
LTX = Family(
    name="ltx-i2v",
    pipeline="LTXImageToVideoPipeline",
    frame_step=8,
    multiple_px=32,
    width_px=704,
    height_px=512,
    num_frames=161,
    steps=50,
    guidance=3.0,
    fps=25.0,
    fps_argument="frame_rate",
)
LTX_CONDITION = replace(
    LTX, name="ltx-condition", pipeline="LTXConditionPipeline", image="conditions", goal_argument="conditions"
)
COGVIDEOX = Family(
    name="cogvideox-i2v",
    pipeline="CogVideoXImageToVideoPipeline",
    frame_step=4,
    multiple_px=16,
    width_px=720,
    height_px=480,
    num_frames=49,
    steps=50,
    guidance=6.0,
    fps=8.0,
    fixed_size=True,
    negative_prompt="",
)
COGVIDEOX_15 = replace(
    COGVIDEOX, name="cogvideox15-i2v", width_px=1360, height_px=768, num_frames=81, fps=16.0, fixed_size=False
)
COSMOS2 = Family(
    name="cosmos2-v2w",
    pipeline="Cosmos2VideoToWorldPipeline",
    frame_step=4,
    multiple_px=16,
    width_px=1280,
    height_px=704,
    num_frames=93,
    steps=35,
    guidance=7.0,
    fps=16.0,
    fps_argument="fps",
    caches_prompt=False,  # its guardrail reads the sentence inside the call
)
COSMOS25 = replace(
    COSMOS2,
    name="cosmos25-predict",
    pipeline="Cosmos2_5_PredictBasePipeline",
    steps=36,
    fps_argument=None,
    image="video",
)
HUNYUAN = Family(
    name="hunyuan-i2v",
    pipeline="HunyuanVideoImageToVideoPipeline",
    frame_step=4,
    multiple_px=16,
    width_px=1280,
    height_px=720,
    num_frames=129,
    steps=50,
    guidance=6.0,
    fps=24.0,
    negative_prompt="",
    takes_negative=False,  # guidance is distilled into the weights; true guidance is asked for with `call`
    caches_prompt=False,  # its text encoder also looks at the image
)

FAMILIES: tuple[Family, ...] = (
    WAN21,
    WAN21_FLF,
    WAN22_A14B,
    WAN22_TI2V,
    LTX,
    LTX_CONDITION,
    COGVIDEOX,
    COGVIDEOX_15,
    COSMOS2,
    COSMOS25,
    HUNYUAN,
)
# Publishers store these under the class that makes video from text alone; the same weights take an image.
SIBLINGS: Mapping[str, str] = {"LTXPipeline": LTX.pipeline, "WanPipeline": WAN21.pipeline}


def find_family(
    index: Mapping[str, Any], transformer: Mapping[str, Any], *, pipeline: str | None, adapter: AdapterConfig | None
) -> Family:
    """Return the family of a model.

    Args:
        index: its model_index.json.
        transformer: configuration of its (first) transformer, possibly empty.
        pipeline: class to use in place of the one the model names.
        adapter: record of a class that is not known here.

    Raises:
        ConfigError: the class is unknown, or makes video from text alone.
    """
    stored = str(index.get("_class_name"))
    name = pipeline or stored
    if adapter is not None:
        return _from_adapter(name, adapter)
    if pipeline is None and stored in SIBLINGS:
        if stored == "WanPipeline" and not index.get("expand_timesteps"):
            raise ConfigError(
                "diffusers planner: expected an image-to-video model, found a WanPipeline, which sees no image.",
                "Use a Wan I2V or TI2V model.",
            )
        name = SIBLINGS[stored]
    if name == WAN21.pipeline:
        return _wan(index, transformer)
    if name == COGVIDEOX.pipeline:
        return _cogvideox(transformer)
    for family in FAMILIES:
        if family.pipeline == name:
            return family
    raise ConfigError(
        f"diffusers planner: expected an image-to-video pipeline that is known here, found {name!r}.",
        "If its call takes an image, describe it with the option `adapter`. "
        + did_you_mean(name, {family.pipeline for family in FAMILIES}),
    )


def _wan(index: Mapping[str, Any], transformer: Mapping[str, Any]) -> Family:
    """Four models share one class: 2.2 say so in the index, first-and-last-frame has places for two image tokens."""
    if index.get("expand_timesteps"):
        return WAN22_TI2V
    if index.get("boundary_ratio") is not None:
        return WAN22_A14B
    return WAN21 if transformer.get("pos_embed_seq_len") is None else WAN21_FLF


def _cogvideox(transformer: Mapping[str, Any]) -> Family:
    """1.5 has patches in time; 1.0 has learned positions, so that its only size is in the configuration."""
    if transformer.get("patch_size_t") is not None:
        return COGVIDEOX_15
    width, height = transformer.get("sample_width"), transformer.get("sample_height")
    if not isinstance(width, int) or not isinstance(height, int):
        return COGVIDEOX
    return replace(COGVIDEOX, width_px=8 * width, height_px=8 * height)


def _from_adapter(name: str, adapter: AdapterConfig) -> Family:
    return Family(
        name=f"adapter:{name}",
        pipeline=name,
        frame_step=adapter.frame_step,
        multiple_px=adapter.multiple_px,
        width_px=adapter.width_px,
        height_px=adapter.height_px,
        num_frames=adapter.num_frames,
        steps=adapter.steps,
        guidance=adapter.guidance_scale,
        fps=adapter.fps,
        fixed_size=adapter.fixed_size,
        guidance_argument=adapter.guidance,
        fps_argument=adapter.fps_argument,
        image_argument=adapter.image,
        goal_argument=adapter.goal,
        takes_negative=adapter.negative_prompt,
        takes_size=adapter.sized,
        caches_prompt=False,
    )
