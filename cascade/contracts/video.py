"""Reading and writing H.264 with PyAV; the only place that knows codecs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError

Frames = NDArray[np.uint8]


def write_mp4(
    target: Path | io.BytesIO,
    frames: Frames,
    fps: float,
    *,
    crf: int = 14,
    exact_colour: bool = False,
    keyframe_every: int = 4,
) -> None:
    """Write (T, H, W, 3) uint8 RGB frames as H.264 in MP4; odd sizes lose their last row or column.

    Args:
        target: file to write (replaced only when complete) or an in-memory buffer.
        frames: the frames.
        fps: frame rate [Hz].
        crf: quality, lower is better.
        exact_colour: full colour resolution (4:4:4), for training data; browsers want the default 4:2:0.
        keyframe_every: distance of key frames, small for exact scrubbing.
    """
    import av

    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise DataError(f"video: expected (T, H, W, 3) uint8 frames, found {frames.shape} {frames.dtype}.")
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    partial = target.with_suffix(".mp4.partial") if isinstance(target, Path) else target
    with av.open(str(partial) if isinstance(partial, Path) else partial, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if exact_colour else "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "g": str(keyframe_every), "preset": "veryfast", "bf": "0"}
        for rgb in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    if isinstance(target, Path) and isinstance(partial, Path):
        partial.replace(target)


def read_video(source: Path | io.BytesIO, *, start: int = 0, count: int | None = None) -> tuple[Frames, float]:
    """Return ((T, H, W, 3) uint8 RGB, fps) of any video PyAV can decode.

    Raises:
        DataError: the file is missing, corrupt, or holds no frame.
    """
    import av

    name = str(source) if isinstance(source, Path) else "video in memory"
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"{name}: expected a video file, found none.", "Check the path.")
    frames: list[Frames] = []
    try:
        with av.open(str(source) if isinstance(source, Path) else source) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            rate = float(stream.average_rate or 0) or 10.0
            for index, frame in _frames_from(container, stream, start):
                if index < start:
                    continue
                if count is not None and len(frames) >= count:
                    break
                frames.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError) as error:
        raise DataError(
            f"{name}: expected a readable video, found a broken one ({error}).", "Re-encode or replace it."
        ) from error
    if not frames:
        raise DataError(f"{name}: expected at least one video frame, found none.")
    return np.stack(frames), rate


def _frames_from(container: Any, stream: Any, start: int) -> Iterator[tuple[int, Any]]:
    """Yield (index, frame) from the last key frame at or before a frame: a long file is not decoded from its start."""
    step = 1 / (stream.average_rate * stream.time_base) if stream.average_rate else 0
    begins = stream.start_time or 0
    if start > 0 and step:
        container.seek(begins + round(start * step), stream=stream, backward=True)
    index: int | None = None if start > 0 and step else 0
    for frame in container.decode(stream):
        if index is None:
            index = round((frame.pts - begins) / step) if frame.pts is not None else 0
        yield index, frame
        index += 1


class VideoWriter:
    """H.264 in fragmented MP4, written while it happens: a file cut off by a killed process can still be played.

    Args:
        target: file to write, at once under its own name.
        fps: frame rate [Hz].
        crf: quality, lower is better.
        keyframe_every: frames per fragment; at most this many are lost when the process is killed.
    """

    def __init__(self, target: Path, fps: float, *, crf: int = 20, keyframe_every: int = 4) -> None:
        import av

        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(target), mode="w", format="mp4", options=options, buffer_size=4096)
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._stream.options = {
            "crf": str(crf),
            "g": str(keyframe_every),
            "preset": "veryfast",
            "tune": "zerolatency",
            "bf": "0",
        }
        self._size: tuple[int, int] | None = None

    def write(self, rgb: Frames) -> None:
        """Append one (H, W, 3) uint8 RGB frame; odd sizes lose their last row or column.

        Raises:
            DataError: the size is not that of the first frame.
        """
        import av

        height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
        if self._size is None:
            self._size = (width, height)
            self._stream.width, self._stream.height = width, height
        if self._size != (width, height):
            raise DataError(f"video: expected frames of {self._size}, found {(width, height)}.")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file; further calls do nothing."""
        if self._size is not None:
            self._container.mux(self._stream.encode(None))
            self._size = None
        self._container.close()
