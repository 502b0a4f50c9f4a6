"""A folder of policy weights: one network in 8 bits, what its numbers mean, a card and check sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts.errors import WeightsError, did_you_mean
from planner.storage import load_network, save_network
from planner.weights import check_sums, write_sums

if TYPE_CHECKING:
    from planner.policies.network import PolicyNetwork

FORMAT = "cascade-policy-1"
SHIPPED = Path(__file__).parent.parent / "weights" / "policies"


@dataclass(frozen=True)
class PolicySettings:
    """What the weights were made for.

    Attributes:
        kind: bc, cotrained or joint. camera: the one they know.
        hand_mean, hand_std: of measured position [m] and opening. target_std: of the offsets [m], one for all axes.
        latent_mean, latent_std: per channel, of the change of latents; empty for a policy without video.
        step_s: time that a target holds.
        provenance: data digest, options, versions, scores.
    """

    kind: str
    camera: str
    hand_mean: tuple[float, ...]
    hand_std: tuple[float, ...]
    target_std: float
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    step_s: float
    provenance: Mapping[str, Any]


def policy_folder(path: Path) -> Path:
    """Return the folder of weights named as a path, by a shipped name, or by the output of a training run.

    Raises:
        WeightsError: there is none.
    """
    for folder in (path, path / "weights", SHIPPED / path if len(path.parts) == 1 else path):
        if (folder / "settings.json").is_file():
            return folder
    known = sorted(found.name for found in SHIPPED.iterdir() if found.is_dir()) if SHIPPED.is_dir() else []
    raise WeightsError(
        f"policy weights {str(path)!r}: expected a folder with settings.json, found none.",
        did_you_mean(str(path), known),
    )


def save_policy(network: PolicyNetwork, settings: PolicySettings, folder: Path, card: str) -> str:
    """Write the folder and return the digest that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_network(network, folder / "network", compact=True)
    values = {"format": FORMAT, **asdict(settings)}
    (folder / "settings.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return write_sums(folder)


def load_policy(folder: Path) -> tuple[PolicyNetwork, PolicySettings, str]:
    """Read and check a folder: network in float32, settings, digest.

    Raises:
        WeightsError: missing, corrupt, or of another version.
    """
    import torch
    from safetensors import SafetensorError

    from planner.policies.network import PolicyNetwork

    digest = check_sums(folder)
    try:
        values = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        if values.pop("format", None) != FORMAT:
            raise WeightsError(f"{folder}: expected policy weights of format {FORMAT}, found others.", "Train again.")
        rows: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        settings = PolicySettings(**rows)
        network: PolicyNetwork = load_network(PolicyNetwork, folder / "network", torch.float32).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: expected policy weights, found broken ones ({error}).", "Restore it.") from error
    return network, settings, digest
