"""A trained value: loaded, saved, and asked how far along the task is in each frame of a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError, WeightsError
from cascade.goal import nearest_sentence

if TYPE_CHECKING:
    from cascade.value.network import ValueNetwork

FORMAT = "cascade-value-1"
FILE = "value.safetensors"
SHIPPED = Path(__file__).parent / "weights" / "corner-1"


class ValueModel:
    """How far along a task is, 0 (just begun) to 1 (done), by a frame, the first frame and the sentence.

    Args:
        network: in evaluation mode from here on.
        sentences: what it was taught, in the order of the network's numbers.
        camera: the view that it was taught.
    """

    def __init__(self, network: ValueNetwork, sentences: Sequence[str], camera: str) -> None:
        self.network, self.sentences, self.camera = network.eval(), tuple(sentences), camera

    def progress(self, instruction: str, frames: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Return (T,) the share of the task that is done in each frame, or None for a sentence it does not know.

        Args:
            instruction: what to do.
            frames: (T, H, W, 3) uint8; frame 0 is where the task begins.

        Raises:
            DataError: these are no frames.
        """
        import torch

        if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
            raise DataError(f"value: expected frames (T, H, W, 3), found shape {frames.shape}.")
        known = nearest_sentence(instruction, self.sentences)
        if known is None:
            return None
        small = torch.from_numpy(shrunk(frames)).permute(0, 3, 1, 2).float() / 255.0
        numbers = torch.full((len(small),), self.sentences.index(known))
        with torch.inference_mode():
            logits = self.network(small[:1].expand_as(small), small, numbers)
            return np.asarray(torch.sigmoid(logits).double().numpy())

    def digest(self) -> str:
        """Return the first 16 digits of the SHA-256 of weights, sentences and camera."""
        digest = hashlib.sha256(json.dumps([self.sentences, self.camera]).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.half().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it into a folder, in half precision."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.half().contiguous() for name, value in self.network.state_dict().items()}
        header = {"format": FORMAT, "sentences": json.dumps(self.sentences), "camera": self.camera}
        save_file(tensors, str(folder / FILE), metadata=header)

    @classmethod
    def load(cls, folder: Path) -> ValueModel:
        """Read what `save` wrote.

        Raises:
            WeightsError: there is no value, or something else.
        """
        from safetensors import SafetensorError, safe_open

        from cascade.value.network import ValueNetwork

        path = folder / FILE
        again = "Train one with `cascade train value DATA -o DIR` and name DIR/weights."
        try:
            with safe_open(str(path), framework="pt") as file:
                header: dict[str, str] = file.metadata() or {}
                tensors: dict[str, Any] = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: expected a learned value, found none ({error}).", again) from error
        if header.get("format") != FORMAT:
            raise WeightsError(f"{path}: expected format {FORMAT}, found {header.get('format')}.", again)
        sentences = json.loads(header["sentences"])
        network = ValueNetwork(len(sentences))
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise WeightsError(f"{path}: expected weights of this version's network, found others.", again) from error
        return cls(network, sentences, header["camera"])


def shrunk(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames (T, H, W, 3) as (T, SIDE_PX, SIDE_PX, 3), each pixel the mean of those it covers."""
    import cv2

    from cascade.value.network import SIDE_PX

    size = (SIDE_PX, SIDE_PX)
    return np.stack([np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8) for frame in frames])
