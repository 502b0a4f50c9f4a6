"""A Markdown table of several `cascade eval --json` documents, tasks down, runs across.

python benchmarks/eval_table.py runs/final/*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def heading(document: dict[str, Any], path: Path) -> str:
    """Recipe, planner and control of one run."""
    control = document.get("control")
    return f"{document['recipe']}, {document['planner']}" + (f", {control}" if control else "") + f" ({path.stem})"


def main() -> None:
    """Print the table."""
    paths = [Path(name) for name in sys.argv[1:]]
    if not paths:
        raise SystemExit(__doc__)
    documents = [json.loads(path.read_text()) for path in paths]
    print("| task | " + " | ".join(heading(d, p) for d, p in zip(documents, paths, strict=True)) + " |")
    print("|---" * (len(documents) + 1) + "|")
    for task in dict.fromkeys(task for d in documents for task in d["tasks"]):
        cells = [d["tasks"].get(task) for d in documents]
        shown = [f"{round(c['rate'] * c['n'])}/{c['n']}" if c else "" for c in cells]
        print(f"| {task} | " + " | ".join(shown) + " |")
    rates = [d["success"] for d in documents]
    overall = [f"**{100 * r['rate']:.0f} %** ({100 * r['ci95'][0]:.0f} to {100 * r['ci95'][1]:.0f})" for r in rates]
    print("| all | " + " | ".join(overall) + " |")


if __name__ == "__main__":
    main()
