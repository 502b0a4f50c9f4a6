"""A vision-language model as judge: shown the last frame, does it say that the task is done?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Candidate, ConfigError, Measure, Needs, Observation, WeightsError


class VisionLanguageJudge:
    """Probability of the answer "yes" against "no" to one question about the plan's frames.

    Args:
        model: folder that `save_pretrained` wrote, or a hub id in the local cache.
        question: contains {instruction}.
        frames: how many frames it is shown, evenly spaced, the last one always.
        yes, no: the two answers whose first tokens are compared.
        device: torch device.
        local_files_only: False lets the hub be asked.
    """

    needs = Needs()
    measure = Measure(name="vlm", unit="probability", higher_is_better=True)

    def __init__(
        self,
        model: str,
        *,
        question: str,
        frames: int,
        yes: str = "Yes",
        no: str = "No",
        device: str = "cpu",
        local_files_only: bool = True,
    ) -> None:
        if "{instruction}" not in question:
            raise ConfigError(f"scorer 'vlm': expected a question with {{instruction}}, found {question!r}.")
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise ConfigError(
                "scorer 'vlm': expected the package transformers, found none.",
                "pip install 'cascade-wam[diffusers]'.",
            ) from error
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model, local_files_only=local_files_only)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(model, local_files_only=local_files_only)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"scorer 'vlm': {model!r} cannot be loaded as an image-text-to-text model ({str(error)[:200]}).",
                "Give the folder of such a model, or its hub id with local_files_only: false.",
            ) from error
        self._model.to(device).eval()
        self._question, self._frames, self._device = question, frames, device
        self._answers = [self._first_token(word) for word in (yes, no)]
        if self._answers[0] == self._answers[1]:
            raise ConfigError(f"scorer 'vlm': the answers {yes!r} and {no!r} begin with the same token.")

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the probability of yes for each candidate, 0..1."""
        return [self._one(candidate.plan.frames, candidate.plan.instruction) for candidate in candidates]

    def _first_token(self, word: str) -> int:
        tokens = self._processor.tokenizer(word, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise ConfigError(f"scorer 'vlm': the model has no token for {word!r}.")
        return int(tokens[0])

    def _one(self, frames: NDArray[np.uint8], instruction: str) -> float:
        import torch

        shown = [np.array(frames[i]) for i in np.linspace(len(frames) - 1, 0, self._frames).round().astype(int)[::-1]]
        text = self._question.format(instruction=instruction)
        inputs = self._processor(images=shown, text=self._prompt(text, len(shown)), return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**inputs.to(self._device)).logits[0, -1, self._answers]
        return float(torch.softmax(logits.float(), dim=0)[0])

    def _prompt(self, text: str, images: int) -> str:
        """The question in the model's own chat form, or plainly behind its image tokens when it has none."""
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
            chat = [{"role": "user", "content": content}]
            return str(self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        return str(self._processor.image_token) * images + " " + text
