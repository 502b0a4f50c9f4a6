"""The README beside fine-tuned weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def finetuned_card(document: Mapping[str, Any]) -> str:
    """Return Markdown that says what the weights are, how to load them and where they come from.

    Args:
        document: `method`, `model`, `pipeline`, `family`, `second_transformer`, `options`, `data`, `scores`, ...
    """
    return f"""# {document["family"]}, fine-tuned ({document["method"]})

Trained with `cascade train planner --backend diffusers` from `{document["model"]}`. The licence of these weights is
that of the model they come from.

## With diffusers

```python
{_loading(document)}
```

## With cascade

```yaml
{_planner(document)}
```

## Provenance

```json
{json.dumps(document, indent=2, default=str)}
```
"""


def _loading(document: Mapping[str, Any]) -> str:
    pipeline, model = document["pipeline"], document["model"]
    if document["method"] == "full":
        return f'from diffusers import {pipeline}\n\npipe = {pipeline}.from_pretrained("this/folder")'
    more = ", load_into_transformer_2=True" if document["second_transformer"] else ""
    return (
        f'from diffusers import {pipeline}\n\npipe = {pipeline}.from_pretrained("{model}")\n'
        f'pipe.load_lora_weights("this/folder"{more})'
    )


def _planner(document: Mapping[str, Any]) -> str:
    full = document["method"] == "full"
    lines = [
        "planner:",
        "  name: diffusers",
        "  options:",
        f"    model: {'this/folder' if full else document['model']}",
    ]
    if not full:
        lines += ["    loras:", "      - path: this/folder"]
        lines += ["        second_transformer: true"] if document["second_transformer"] else []
    lines += [f"    {key}: {value}" for key, value in document["planner_options"].items() if value is not None]
    return "\n".join(lines)
