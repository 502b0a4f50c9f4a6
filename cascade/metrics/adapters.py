"""Metrics that need the weights of others: LPIPS and Frechet video distances. Off by default, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.contracts.errors import DataError, WeightsError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A metric that needs a network of others.

    Attributes:
        name: key in documents.
        file: name of the TorchScript file with the network, without which it does not run.
        takes: what the network maps to what.
        source: where the weights come from; fetching them is the reader's decision, licence included.
    """

    name: str
    file: str
    takes: str
    source: str


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        name="lpips",
        file="lpips-alex.ts",
        takes="two (N, 3, H, W) batches in -1..1 to (N,) distances",
        source="the package lpips (Zhang et al., 2018), net='alex', traced with torch.jit.trace",
    ),
    Adapter(
        name="fvd_i3d",
        file="i3d-kinetics400.ts",
        takes="(N, 3, T, 224, 224) clips in -1..1 to (N, 400) features",
        source="the I3D network of Unterthiner et al., 2018, as TorchScript",
    ),
    Adapter(
        name="fvd_videomae",
        file="videomae-large-ssv2.ts",
        takes="(N, 3, 16, 224, 224) clips to (N, 1024) features",
        source="the VideoMAE network used by cd-fvd (Ge et al., 2024), as TorchScript",
    ),
)


def weights_of(name: str, folder: Path) -> Path:
    """Return the file of an adapter's network in `folder`.

    Raises:
        DataError: there is no adapter of that name.
        WeightsError: the file is not there; the message names it.
    """
    known = {adapter.name: adapter for adapter in ADAPTERS}
    if name not in known:
        raise DataError(f"metric adapter {name!r}: unknown.", did_you_mean(name, known))
    adapter = known[name]
    path = folder / adapter.file
    if not path.is_file():
        raise WeightsError(
            f"{name}: expected the network at {path}, found no such file.",
            f"Put it there yourself: {adapter.source}; it maps {adapter.takes}. cascade downloads nothing.",
        )
    return path


def load_network(name: str, folder: Path) -> Any:
    """Return an adapter's network as a torch module in evaluation mode; see `Adapter.takes`.

    Raises:
        DataError: there is no adapter of that name.
        WeightsError: the file is missing or is no TorchScript.
    """
    path = weights_of(name, folder)
    import torch

    try:
        network: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return network.eval()
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: expected TorchScript, found something else ({error}).", "Trace it anew."
        ) from error
