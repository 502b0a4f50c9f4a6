"""Demonstrations in memory as batches for a policy: read and encoded once, whatever number of policies learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner.policies.samples import Film
from planner.training.words import WordBank

ENCODE_BATCH = 64
Pick = tuple[int, int]  # film and frame


class Material:
    """Films with words, normalised; the latents of their frames are made when they are first wanted.

    Args:
        films: demonstrations.
        seed: of the wordings.
        autoencoder: folder of planner weights whose auto-encoder is used; None: the shipped one.
        frames: imagined frames of a policy.
        tick: told the share of the encoding that is done.
    """

    def __init__(
        self,
        films: Sequence[Film],
        *,
        seed: int,
        autoencoder: Path | None,
        frames: int,
        tick: Callable[[float, str], None] = lambda share, note: None,
    ) -> None:
        self.films, self._autoencoder, self._frames, self._tick = films, autoencoder, frames, tick
        self.words = WordBank(((film.task, film.instruction) for film in films), seed)
        self.learnt: dict[str, list[int]] = {}
        for index, film in enumerate(films):
            if not film.held_out:
                self.learnt.setdefault(film.task, []).append(index)
        self.tasks = sorted(self.learnt)
        known = [index for group in self.learnt.values() for index in group]
        hand = np.concatenate([films[index].hand for index in known])
        self.hand_mean, self.hand_std = hand.mean(0), hand.std(0) + 1e-4
        self.target_std = float(np.concatenate([films[index].targets[..., :3] for index in known]).std())
        self.latents: list[Tensor] = []
        self.latent_mean, self.latent_std = torch.zeros(0), torch.ones(0)

    def encode(self) -> None:
        """Make the latents of all frames, (N, channels, h, w) float16 per film; once."""
        from planner.networks.autoencoder import FrameAutoencoder
        from planner.storage import load_network
        from planner.weights import DEFAULT_WEIGHTS, check_sums

        if self.latents:
            return
        folder = self._autoencoder or DEFAULT_WEIGHTS
        check_sums(folder)
        autoencoder = load_network(FrameAutoencoder, folder / "ae", torch.float32).eval()
        with torch.no_grad():
            for index, film in enumerate(self.films):
                starts = range(0, len(film.frames), ENCODE_BATCH)
                parts = [autoencoder.encode(images(film.frames[s : s + ENCODE_BATCH])).half() for s in starts]
                self.latents.append(torch.cat(parts))
                self._tick((index + 1) / len(self.films), f"{index + 1}/{len(self.films)}")
        sample = [self._future(i, 0) for group in self.learnt.values() for i in group[:: max(1, len(group) // 8)]]
        change = torch.stack(sample).permute(2, 0, 1, 3, 4).flatten(1)
        self.latent_mean, self.latent_std = change.mean(1), change.std(1) + 1e-3

    def draw(self, count: int, rng: np.random.Generator) -> list[Pick]:
        """Return random states to learn from, tasks equally often."""
        picks = []
        for _ in range(count):
            group = self.learnt[self.tasks[int(rng.integers(len(self.tasks)))]]
            film = group[int(rng.integers(len(group)))]
            picks.append((film, int(rng.integers(len(self.films[film].frames)))))
        return picks

    def measured(self, most: int) -> list[Pick]:
        """Return at most about `most` states of held-out films, or of all when none is held out."""
        kept = [i for i, film in enumerate(self.films) if film.held_out] or list(range(len(self.films)))
        picks = [(i, s) for i in kept for s in range(len(self.films[i].frames))]
        return picks[:: max(1, len(picks) // most)]

    def batch(
        self, picks: Sequence[Pick], rng: np.random.Generator | None, *, video: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Return what the network sees, its targets (B, H, 4), and normalised changes of latents if `video`.

        Without `rng` every film is told in the first wording of its task.
        """
        films = [self.films[i] for i, _ in picks]
        frames = np.stack([film.frames[s] for film, (_, s) in zip(films, picks, strict=True)])
        hand = np.stack([film.hand[s] for film, (_, s) in zip(films, picks, strict=True)])
        targets = np.stack([film.targets[s] for film, (_, s) in zip(films, picks, strict=True)])
        words = [self.words.plain(f.task) if rng is None else self.words.draw(f.task, rng) for f in films]
        seen = {
            "image": images(frames),
            "words": torch.from_numpy(np.stack(words)),
            "hand": torch.from_numpy(((hand - self.hand_mean) / self.hand_std).astype(np.float32)),
        }
        if not video:
            return seen, torch.from_numpy(targets), None
        change = torch.stack([self._future(i, s) for i, s in picks])
        normalised = (change - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
        return seen, torch.from_numpy(targets), normalised

    def _future(self, film: int, start: int) -> Tensor:
        """Return (frames, channels, h, w): how the latents change until each imagined frame."""
        latents = self.latents[film]
        wanted = torch.arange(start + 1, start + 1 + self._frames).clamp(max=len(latents) - 1)
        return latents[wanted].float() - latents[start].float()


def images(frames: NDArray[np.uint8]) -> Tensor:
    """Return (N, 3, H, W) in -1..1 of frames (N, H, W, 3) uint8."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
