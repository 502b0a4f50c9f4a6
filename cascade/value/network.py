"""The value network: what is seen, what has changed since the first frame, and the sentence, to one number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE_PX = 48  # images are shrunk to SIDE_PX x SIDE_PX
WIDTH, SENTENCE_WIDTH = 64, 16


class ValueNetwork(nn.Module):
    """A small convolutional network, told the sentence by scaling and shifting its channels.

    The modulation is FiLM (Perez et al., AAAI 2018, arXiv 1709.07871).

    Args:
        sentences: how many sentences it knows.
    """

    def __init__(self, sentences: int) -> None:
        super().__init__()
        self.sentence = nn.Embedding(sentences, SENTENCE_WIDTH)
        self.see = nn.Sequential(nn.Conv2d(6, 24, 5, stride=2, padding=2), nn.GroupNorm(4, 24))
        self.film = nn.Linear(SENTENCE_WIDTH, 2 * 24)
        self.look = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.GroupNorm(4, 48),
            nn.SiLU(),
            nn.Conv2d(48, 32, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.gather = nn.Linear(32 * (SIDE_PX // 8) ** 2, WIDTH)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH + SENTENCE_WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))

    def forward(self, first: Tensor, now: Tensor, sentence: Tensor) -> Tensor:
        """Return the logit of the share done, (N,).

        Args:
            first: (N, 3, SIDE_PX, SIDE_PX), 0..1, the frame from which the task began.
            now: of the same shape, the frame that is judged.
            sentence: (N,) int64, numbers of known sentences.
        """
        meant = self.sentence(sentence)
        scale, shift = self.film(meant)[..., None, None].chunk(2, dim=1)
        seen = self.see(torch.cat([now - 0.5, (now - first) * 2.0], dim=1)) * (1.0 + scale) + shift
        logit: Tensor = self.head(torch.cat([self.gather(self.look(seen)), meant], dim=1))
        return logit[:, 0]
