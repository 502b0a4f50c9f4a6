"""The card beside the weights: what they are, from what, and how well they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade.value.films import Film
from cascade.value.options import ValueTrainerConfig

CARD = """# A learned progress value

How far along the task is that a sentence names, 0 to 1, by one frame and the first frame, both shrunk to 48 x 48.
Progress regression with negatives, after ReWiND (arXiv 2505.10911). Used by the scorer `value`.

- Camera `{camera}`; {sentences} sentences; others get no value.
- Learnt from {learnt} successful demonstrations of the layouts {seeds}, {frames} frames each; data digest
  `{digest}`.
- Held out: {held} demonstrations, the layouts {kept}.
- Reproduce: `cascade train value DATA... -o DIR{settings}`
- Options: {options}

| Sentence, held-out layouts | Rank correlation of said with true progress |
|---|---|
{rows}

Mean absolute error {error:.3f}; value at the end {end:.2f}, and {stranger} when told another task's sentence.
"""


def write_card(
    folder: Path, options: ValueTrainerConfig, films: Sequence[Film], digest: str, scores: Mapping[str, Any]
) -> None:
    """Write MODEL_CARD.md into the folder of the weights."""
    changed = options.model_dump(exclude_defaults=True)
    stranger = scores["value_at_the_end_for_another_sentence"]
    text = CARD.format(
        camera=options.camera,
        sentences=len(scores["rank_correlation"]),
        learnt=sum(not film.held_out for film in films),
        seeds=_spans({film.seed for film in films if not film.held_out}),
        frames=options.frames,
        digest=digest,
        held=scores["demonstrations"],
        kept=_spans({film.seed for film in films if film.held_out}),
        settings="".join(f" --set {name}={value}" for name, value in changed.items()),
        options=", ".join(f"{name} {value}" for name, value in options.model_dump().items()),
        rows="\n".join(f"| {sentence} | {value:.2f} |" for sentence, value in scores["rank_correlation"].items()),
        error=scores["mean_error"],
        end=scores["value_at_the_end"],
        stranger="not known" if stranger is None else f"{stranger:.2f}",
    )
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")


def _spans(seeds: set[int]) -> str:
    """Return numbers as `1 to 4, 7`."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
