"""Entry points of the cameras. Each builds a `CameraProcess`: the driver runs in a process of its own once opened."""

from __future__ import annotations

from cascade.contracts import PluginSpec
from robot_io.cameras.config import CameraConfig, OpencvConfig, PlaybackConfig, RealsenseConfig, SyntheticConfig
from robot_io.cameras.process import CameraProcess
from robot_io.cameras.source import FrameSource


def realsense_source(config: RealsenseConfig) -> FrameSource:
    """Make the source of a RealSense, inside the camera process."""
    from robot_io.cameras.realsense import RealsenseSource

    return RealsenseSource(config)


def opencv_source(config: OpencvConfig) -> FrameSource:
    """Make the source of a webcam or video file, inside the camera process."""
    from robot_io.cameras.opencv import OpencvSource

    return OpencvSource(config)


def playback_source(config: PlaybackConfig) -> FrameSource:
    """Make the source of a recording, inside the camera process."""
    from robot_io.cameras.playback import open_playback

    return open_playback(config)


def synthetic_source(config: SyntheticConfig) -> FrameSource:
    """Make the source of drawn images, inside the camera process."""
    from robot_io.cameras.synthetic import SyntheticSource

    return SyntheticSource(config)


def _realsense(config: CameraConfig) -> CameraProcess:
    return CameraProcess(realsense_source, config)


def _opencv(config: CameraConfig) -> CameraProcess:
    return CameraProcess(opencv_source, config)


def _playback(config: CameraConfig) -> CameraProcess:
    return CameraProcess(playback_source, config)


def _synthetic(config: CameraConfig) -> CameraProcess:
    return CameraProcess(synthetic_source, config)


REALSENSE = PluginSpec("Intel RealSense: colour, aligned depth, intrinsics", RealsenseConfig, _realsense)
OPENCV = PluginSpec("Webcam, V4L2 device or video file through OpenCV", OpencvConfig, _opencv)
PLAYBACK = PluginSpec("A recording (.db3, .bag, .mp4) that plays once as a camera", PlaybackConfig, _playback)
SYNTHETIC = PluginSpec("Drawn: a moving pattern with metric depth", SyntheticConfig, _synthetic)
