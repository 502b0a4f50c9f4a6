"""A folder of weights in pieces of a limited size, for places that take no large files; put together and checked again.

The pieces lie where the files lay, so that the card and the configuration can be read as they are. What is larger than
a piece becomes `NAME.part-000`, `NAME.part-001` and so on. SHARDS.json lists every file and piece with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from cascade.contracts.errors import WeightsError

INDEX = "SHARDS.json"
FORMAT = "cascade-shards-1"
MIB = 2**20


def split_folder(folder: Path, output: Path, *, limit_mib: float) -> int:
    """Write `folder` into `output` in pieces of at most `limit_mib` MiB and return their number.

    What is in `output` is replaced as a whole.

    Raises:
        WeightsError: there is no such folder, it is empty, or `output` holds something else.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        raise WeightsError(f"{folder}: expected a folder of weights, found none.", "Train some first.")
    if output.exists() and any(output.iterdir()) and not (output / INDEX).is_file():
        raise WeightsError(f"{output}: expected a new folder or earlier pieces, found other files.", "Choose another.")
    limit = max(1, int(limit_mib * MIB))
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    entries = [_split(path, folder, partial, limit) for path in files]
    index = {"format": FORMAT, "limit_bytes": limit, "files": entries}
    (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)
    return sum(len(entry["pieces"]) for entry in entries)


def join_folder(pieces: Path, output: Path) -> None:
    """Put together in `output`, a new folder, what `split_folder` wrote.

    Raises:
        WeightsError: a piece is missing or altered, or `output` is there already.
    """
    index = _index(pieces)
    if output.exists():
        raise WeightsError(f"{output}: expected a new folder, found one that is there.", "Choose another.")
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for entry in index["files"]:
        path = _inside(partial, entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = hashlib.sha256()
        with path.open("wb") as file:
            for piece in entry["pieces"]:
                data = _piece(pieces, piece)
                whole.update(data)
                file.write(data)
        if whole.hexdigest() != entry["sha256"]:
            raise WeightsError(f"{entry['path']}: its pieces do not make the file that was split.", "Copy them again.")
    partial.replace(output)


def _split(path: Path, folder: Path, output: Path, limit: int) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    several = path.stat().st_size > limit
    whole = hashlib.sha256()
    pieces: list[dict[str, Any]] = []
    with path.open("rb") as file:
        data = file.read(limit)
        while data or not pieces:
            piece = f"{name}.part-{len(pieces):03d}" if several else name
            target = output / piece
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            whole.update(data)
            pieces.append({"name": piece, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
            data = file.read(limit)
    return {"path": name, "sha256": whole.hexdigest(), "pieces": pieces}


def _index(pieces: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((pieces / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{pieces}: expected pieces with a {INDEX}, found none ({error}).", "Copy all of it."
        ) from error
    if index.get("format") != FORMAT:
        raise WeightsError(f"{pieces}: expected format {FORMAT}, found {index.get('format')!r}.", "Split again.")
    return index


def _piece(pieces: Path, piece: dict[str, Any]) -> bytes:
    path = _inside(pieces, piece["name"])
    if not path.is_file():
        raise WeightsError(f"{path}: expected a piece, found none.", "Copy all of the pieces.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != piece["sha256"]:
        raise WeightsError(f"{path}: its check sum differs from {INDEX}: the piece is corrupt.", "Copy it again.")
    return data


def _inside(folder: Path, name: str) -> Path:
    """Return a path below `folder`; an index that was tampered with must not write elsewhere."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise WeightsError(f"{INDEX}: expected names inside the folder, found {name!r}.", "Get the pieces again.")
    return path
