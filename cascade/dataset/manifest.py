"""What a set was made from, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cascade.contracts import DataError
from cascade.dataset.entries import EpisodeEntry, read_json

HEADER = "recording.json"
MANIFEST = "meta/manifest.json"
SCHEMA_VERSION = 1


def versions() -> dict[str, str]:
    """Return the versions that decide what a recording looks like."""
    found = {}
    for name, package in (("cascade", "cascade-wam"), ("mujoco", "mujoco"), ("metaworld", "metaworld")):
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def read_header(root: Path) -> dict[str, Any]:
    """Return how the set at `root` is recorded: kind, rig, options, versions; empty for a set of unknown origin."""
    path = root / HEADER
    return dict(read_json(path)) if path.exists() else {}


def manifest(header: Mapping[str, Any], entries: Iterable[EpisodeEntry]) -> dict[str, Any]:
    """Return the manifest of a set with its digest: same recording, same episodes, same digest."""
    episodes = [
        {
            "key": entry.key,
            "task": entry.task,
            "instruction": entry.instruction,
            "kind": entry.kind,
            "seed": entry.seed,
            "success": entry.success,
            "length": entry.length,
            "sha256": entry.sha256,
        }
        for entry in sorted(entries, key=lambda entry: entry.order)
    ]
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "recording": dict(header), "episodes": episodes}
    return {**content, "digest": digest_of(content)}


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the hash of a manifest, whatever digest it carries."""
    plain = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the manifest of a finalised set; raises DataError when it does not match its own digest."""
    content: dict[str, Any] = read_json(root / MANIFEST)
    expected = digest_of(content)
    if content.get("digest") != expected:
        problem = f"{root / MANIFEST}: expected digest {expected[:12]}, found {str(content.get('digest'))[:12]}."
        raise DataError(problem, "The manifest was edited after recording; restore it or record again.")
    return content
