"""`cascade train value`: demonstrations to a learned value of a state.

Progress regression with negatives, after ReWiND (Zhang et al., arXiv 2505.10911): the share of the demonstration that
has passed is learnt, and 0 for demonstrations of something else. There the network reads a whole video and is shown
rewound ones; here it reads one frame and the first, so that a frame's value cannot depend on the order of frames and
there is nothing to rewind. Time is measured along what happens, not by the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cascade.contracts import EpisodeSource
from cascade.contracts.errors import ConfigError
from cascade.value.batches import Batches
from cascade.value.card import write_card
from cascade.value.checkpoint import load_checkpoint, save_checkpoint
from cascade.value.films import Film, load_films
from cascade.value.measuring import measure
from cascade.value.model import ValueModel
from cascade.value.network import ValueNetwork
from cascade.value.options import ValueTrainerConfig

WARM_UP = 0.1  # share of the steps in which the learning rate rises


class ValueTrainer:
    """Learns the value from demonstrations (a Trainer); a resumed run goes on after the last whole epoch, exactly."""

    def __init__(self, options: ValueTrainerConfig) -> None:
        self._options = options

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into `output` and return the scores on held-out layouts; the weights are in `output`/weights.

        Raises:
            ConfigError: `output` holds a run and `resume` is not set, or the run has other options or data.
            DataError: there is nothing to learn from or to measure on.
        """
        options = self._options
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        signature = f"{episodes.digest} {options.model_dump_json(exclude={'threads'})}"
        state = load_checkpoint(output, signature)
        if state is not None and not resume:
            raise ConfigError(f"{output}: holds a training run already.", "Resume it, or choose another folder.")
        with _bar() as tick:
            films = load_films(
                episodes,
                camera=options.camera,
                count=options.frames,
                hold_every=options.hold_every,
                tick=lambda done, total: tick("reading demonstrations", done, total),
            )
            learnt = [film for film in films if not film.held_out]
            sentences = sorted({film.instruction for film in learnt})
            model = self._fit(learnt, sentences, output, signature, state, tick)
        model.save(output / "weights")
        model = ValueModel.load(output / "weights")  # what is measured is what was written
        scores = measure(model, [film for film in films if film.held_out])
        write_card(output / "weights", options, films, episodes.digest, scores)
        return scores

    def _fit(
        self,
        films: list[Film],
        sentences: list[str],
        output: Path,
        signature: str,
        state: dict[str, Any] | None,
        tick: Callable[[str, int, int], None],
    ) -> ValueModel:
        options = self._options
        torch.manual_seed(options.seed)
        network = ValueNetwork(len(sentences)).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=0.05)
        begin = 0
        if state is not None:
            network.load_state_dict(state["network"])
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state["optimiser"]})
            begin = state["epoch"]
        batches = Batches(films, sentences, options)
        total = options.epochs * batches.steps
        for epoch in range(begin, options.epochs):
            rng = np.random.default_rng([options.seed, epoch])
            torch.manual_seed(options.seed * 100_003 + epoch)  # dropout, so that a resumed run is the same
            for step, batch in enumerate(batches.epoch(rng), start=epoch * batches.steps):
                tick("learning", step, total)
                for group in optimiser.param_groups:
                    group["lr"] = options.learning_rate * _schedule(step / total)
                logit = network(batch.first, batch.now, batch.sentence)
                loss = F.binary_cross_entropy_with_logits(logit, batch.value)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            save_checkpoint(output, signature, network, optimiser, epoch + 1)
        return ValueModel(network, sentences, options.camera)


def _schedule(share: float) -> float:
    """Return the learning rate as a share of its highest: it rises, then falls as a cosine."""
    if share < WARM_UP:
        return (share + 1e-3) / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar per part on stderr when it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    bars: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal) as shown:

        def tick(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = shown.add_task(part, total=total)
            shown.update(bars[part], completed=done + 1)

        yield tick
