"""A folder of planner weights: networks, text table, settings and check sums.

config.json  ae/  unet/  readout/  text_table.safetensors  MODEL_CARD.md  SHA256SUMS
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.contracts.errors import WeightsError
from planner.frames import View
from planner.shards import INDEX
from planner.storage import load_network, save_network
from planner.strides import WHOLE, Stride
from planner.text import PhraseTable

if TYPE_CHECKING:
    import torch

    from planner.networks.autoencoder import FrameAutoencoder
    from planner.networks.readout import LatentReadout
    from planner.networks.unet import PlanUNet

FORMAT = "cascade-planner-1"
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "embedded-1"
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Scales:
    """Means and standard deviations by which the networks' numbers are normalised.

    Attributes:
        latent_mean, latent_std, residual_mean, residual_std: per latent channel.
        position_mean, position_std: per axis [m]; opening_mean, opening_std: scalars.
    """

    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    residual_mean: tuple[float, ...]
    residual_std: tuple[float, ...]
    position_mean: tuple[float, ...]
    position_std: tuple[float, ...]
    opening_mean: float
    opening_std: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scales:
        """Read what `dataclasses.asdict` wrote, be its rows lists or tuples."""
        rows: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in values.items()}
        return cls(**rows)


@dataclass(frozen=True)
class Settings:
    """What the weights were made for and how they want to be used.

    Attributes:
        camera: the one they know, or the first of them. size_px: width and height of plan frames.
        frames: future frames of a plan.
        steps: recommended denoising steps.
        position_temperature, opening_temperature: factors that calibrate the readout's spread.
        tasks: names of the tasks that were trained on.
        provenance: data digest, seed, minutes, versions, scores.
        cameras: the ones they know, when they were made for several and are told which one looks.
        view: what of the camera image they know, see `planner.frames.View`.
        path_std_m, path_opening_std: spread of the path that the U-Net tells beside its frames, on held-out episodes.
        strides: how much of a task their plans may cover.
    """

    camera: str
    size_px: int
    frames: int
    steps: int
    scales: Scales
    tasks: tuple[str, ...]
    position_temperature: float = 1.0
    opening_temperature: float = 1.0
    provenance: Mapping[str, Any] | None = None
    cameras: tuple[str, ...] = ()
    view: View = "square"
    path_std_m: float = 0.0
    path_opening_std: float = 0.0
    strides: tuple[Stride, ...] = (WHOLE,)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of config.json."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Read config.json; raises WeightsError when it is of another format or incomplete."""
        if values.get("format") != FORMAT:
            raise WeightsError(
                f"planner weights: expected format {FORMAT}, found {values.get('format')!r}.",
                "Use weights of this version.",
            )
        try:
            rest = {k: v for k, v in values.items() if k not in ("format", "scales", "tasks", "cameras", "strides")}
            return cls(
                scales=Scales.from_json(values["scales"]),
                tasks=tuple(values["tasks"]),
                cameras=tuple(values.get("cameras", ())),
                strides=tuple(values.get("strides", (WHOLE,))),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise WeightsError(
                f"planner weights: config.json is incomplete ({error}).", "Replace the folder."
            ) from error


@dataclass(frozen=True)
class PlannerWeights:
    """Everything that makes an embedded planner."""

    autoencoder: FrameAutoencoder
    unet: PlanUNet
    readout: LatentReadout | None
    table: PhraseTable
    settings: Settings
    digest: str


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sums(folder: Path) -> str:
    """Write SHA256SUMS over all other files of the folder; return its own hash, the name of the weights."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    (folder / SUMS).write_text("".join(f"{_sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files))
    return _sha256(folder / SUMS)


def check_sums(folder: Path) -> str:
    """Compare every file with SHA256SUMS and return the hash that names the weights.

    Raises:
        WeightsError: the folder or a file is missing or altered.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise WeightsError(
            f"{folder}: expected planner weights with a {SUMS} file, found none.",
            "Give `weights: FOLDER`, or make them with `cascade train planner`.",
        )
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            hint = "Restore the folder."
            if (folder / INDEX).is_file():
                hint = f"It holds pieces: `python benchmarks/gpu_training.py --join {folder} -o DIR` makes one of them."
            raise WeightsError(f"{path}: expected a file of the planner weights, found none.", hint)
        if _sha256(path) != digest:
            raise WeightsError(
                f"{path}: its check sum differs from {SUMS}: the file is corrupt.", "Restore the folder."
            )
    return _sha256(sums)


def save_table(table: PhraseTable, path: Path) -> None:
    """Write the phrase table as float16 safetensors, the sentences in its metadata."""
    from safetensors.numpy import save_file

    meta = {"phrases": json.dumps(list(table.phrases))}
    save_file({"embeddings": table.matrix.astype(np.float16)}, str(path), metadata=meta)


def load_table(path: Path) -> PhraseTable:
    """Read what `save_table` wrote."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        phrases = json.loads((file.metadata() or {})["phrases"])
        rows = file.get_tensor("embeddings").astype(np.float32)
    return PhraseTable(dict(zip(phrases, rows, strict=True)))


def save_weights(weights: PlannerWeights, folder: Path, *, card: str, compact: bool = False) -> str:
    """Write the folder with networks in bfloat16, or in 8 bits, and return the digest that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in (("ae", weights.autoencoder), ("unet", weights.unet), ("readout", weights.readout)):
        if network is not None:
            save_network(network, folder / name, compact=compact)
    save_table(weights.table, folder / "text_table.safetensors")
    (folder / "config.json").write_text(json.dumps(weights.settings.to_json(), indent=2, sort_keys=True) + "\n")
    (folder / "MODEL_CARD.md").write_text(card)
    return write_sums(folder)


def load_weights(folder: Path, *, dtype: torch.dtype, device: torch.device) -> PlannerWeights:
    """Read and check a folder of weights; the readout is kept in float32, it is tiny and its output is metres.

    Raises:
        WeightsError: missing, corrupt, or of another version.
    """
    import torch
    from safetensors import SafetensorError

    from planner.networks.autoencoder import FrameAutoencoder
    from planner.networks.readout import LatentReadout
    from planner.networks.unet import PlanUNet

    digest = check_sums(folder)
    try:
        settings = Settings.from_json(json.loads((folder / "config.json").read_text()))
        kinds: list[Any] = [FrameAutoencoder, PlanUNet, LatentReadout]
        networks: list[Any] = []
        for name, kind, precision in zip(("ae", "unet", "readout"), kinds, (dtype, dtype, torch.float32), strict=True):
            if name == "readout" and not (folder / name).is_dir():
                networks.append(None)
                continue
            network = load_network(kind, folder / name, precision)
            networks.append(network.to(device=device, memory_format=torch.channels_last).eval())
        table = load_table(folder / "text_table.safetensors")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{folder}: expected planner weights, found broken ones ({error}).", "Restore it."
        ) from error
    return PlannerWeights(networks[0], networks[1], networks[2], table, settings, digest)
