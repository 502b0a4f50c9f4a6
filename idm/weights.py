"""A folder of weights: config.json, one safetensors file, the model card, and checksums of all of them."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.contracts import ActionSpace, IncompatibleError, SpaceKind, WeightsError
from cascade.contracts.compact import COMPACT_FILE, packed, unpacked

if TYPE_CHECKING:
    from idm.latent_network import LatentInverseDynamicsNet
    from idm.network import InverseDynamicsNet

CONFIG_FILE = "config.json"
TENSOR_FILE = "diffusion_pytorch_model.safetensors"
SUMS_FILE = "SHA256SUMS"
CARD_FILE = "MODEL_CARD.md"


def shipped_weights() -> tuple[Path, ...]:
    """Folders of the weights that ship with the package, in the order of their names."""
    folder = Path(str(files("idm"))) / "weights"
    return tuple(sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}")))


def latent_weights(name: Path) -> Path:
    """Return the folder of weights named as a path, or by the plain name of shipped ones that read latents."""
    inside = Path(str(files("idm"))) / "weights" / "latents" / name
    return inside if len(name.parts) == 1 and not name.exists() and inside.is_dir() else name


def reads_latents(folder: Path) -> bool:
    """Whether weights read latents instead of frames, as far as can be told without loading them."""
    try:
        return bool(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("reads") == "latents")
    except (OSError, ValueError, AttributeError):
        return False


def load_network(folder: Path) -> InverseDynamicsNet:
    """Load a network that reads frames in float32, ready for inference.

    Raises:
        WeightsError: missing, corrupt, or of another format.
        IncompatibleError: the network's actions are not end-effector poses in the base frame.
    """
    from idm.network import InverseDynamicsNet

    if reads_latents(folder):
        raise WeightsError(f"{folder}: expected weights that read frames, found some that read latents.")
    net: InverseDynamicsNet = _load(folder, InverseDynamicsNet)
    return net


def load_latent_network(folder: Path) -> LatentInverseDynamicsNet:
    """Load a network that reads latents in float32, ready for inference; raises as `load_network`."""
    from idm.latent_network import LatentInverseDynamicsNet

    net: LatentInverseDynamicsNet = _load(folder, LatentInverseDynamicsNet)
    return net


def _load(folder: Path, kind: Any) -> Any:
    """Load a network of a class.

    Raises:
        WeightsError: missing, corrupt, or of another format.
        IncompatibleError: the network's actions are not end-effector poses in the base frame.
    """
    tensors = tensor_file(folder)
    for path in (folder / CONFIG_FILE, tensors):
        if not path.is_file():
            raise WeightsError(
                f"{folder}: expected inverse-dynamics weights, found no {path.name}.",
                "Train some (cascade train idm) or correct the option 'weights'.",
            )
    _check_sums(folder)
    _check_config(folder / CONFIG_FILE)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if tensors.name == COMPACT_FILE:
            net = kind.from_config(kind.load_config(str(folder)))
            net.load_state_dict(unpacked(load_file(str(tensors))))
        else:
            net = kind.from_pretrained(
                str(folder), torch_dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{folder}: expected readable weights, found broken ones ({error}).") from error
    if not all(bool(torch.isfinite(p).all()) for p in net.parameters()):
        raise WeightsError(f"{folder}: expected finite weights, found NaN.", "Train them again.")
    # Where buffers are float32 already, diffusers leaves the rest as it was stored.
    torch.nn.Module.to(net, torch.float32).to(memory_format=torch.channels_last)
    return net.eval()


def tensor_file(folder: Path) -> Path:
    """Return the file of a folder's tensors: 8-bit ones where they are there, else bfloat16."""
    compact = folder / COMPACT_FILE
    return compact if compact.is_file() else folder / TENSOR_FILE


def save_network(
    net: InverseDynamicsNet | LatentInverseDynamicsNet, folder: Path, card: str, *, compact: bool = False
) -> None:
    """Write weights in bfloat16, or in 8 bits, with configuration, card and checksums."""
    import copy

    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPACT_FILE).unlink(missing_ok=True)
    if compact:
        net.save_config(str(folder))
        save_file(packed(net.state_dict()), str(folder / COMPACT_FILE))
        (folder / TENSOR_FILE).unlink(missing_ok=True)
        write_card(folder, card)
        return
    small = copy.deepcopy(net).cpu()
    for parameter in small.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).contiguous()
    small.save_pretrained(str(folder))
    write_card(folder, card)


def write_card(folder: Path, card: str) -> None:
    """Write the model card beside the weights, and the checksums of everything."""
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    names = (CONFIG_FILE, tensor_file(folder).name, CARD_FILE)
    (folder / SUMS_FILE).write_text("".join(f"{_sha256(folder / n)}  {n}\n" for n in names), encoding="utf-8")


def weights_digest(folder: Path) -> str:
    """First 12 hex digits of the tensor file's SHA-256."""
    return _sha256(tensor_file(folder))[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_sums(folder: Path) -> None:
    path = folder / SUMS_FILE
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        if name in (CONFIG_FILE, TENSOR_FILE, COMPACT_FILE) and _sha256(folder / name) != expected:
            raise WeightsError(
                f"{folder / name}: expected SHA-256 {expected[:12]}…, found {_sha256(folder / name)[:12]}….",
                "The file is damaged or was changed by hand; restore it.",
            )


def _check_config(path: Path) -> None:
    from idm.network import FORMAT_VERSION

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version, space = config["format_version"], config["action_space"] or {}
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: expected the configuration of a network, found {error}.") from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: expected format {FORMAT_VERSION}, found {version}.", "Use weights of this version of cascade."
        )
    try:
        trained = ActionSpace(**{**space, "kind": SpaceKind(space.get("kind", SpaceKind.EE_POSE))})
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: expected an action space, found {space}.") from error
    difference = ActionSpace().mismatch(trained)
    if difference:
        raise IncompatibleError(f"{path}: action {difference}.", "Use weights trained for end-effector targets.")
