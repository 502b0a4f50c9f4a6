"""From an instruction to the text that a video model was trained on, and its embedding, kept per sentence."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from cascade.contracts.errors import ConfigError, did_you_mean

PROFILES = {
    "plain": "{instruction}",
    "robot": (
        "A fixed camera looks at a robot arm with a two-finger gripper at a table. The robot arm carries out the task: "
        "{instruction}. The motion is smooth and deliberate, objects keep their shape, the background does not move."
    ),
}
KEPT = 32  # sentences whose embeddings stay in memory


def check_profile(profile: str) -> str:
    """Return the template of a profile; raises ConfigError when it is neither a known name nor a template."""
    if "{instruction}" in profile:
        return profile
    if profile not in PROFILES:
        raise ConfigError(
            f"prompt_profile: expected a known name or a text with {{instruction}}, found {profile!r}.",
            did_you_mean(profile, PROFILES),
        )
    return PROFILES[profile]


def write_prompt(template: str, instruction: str) -> str:
    """Return the text for the model; raises ConfigError when the instruction is empty."""
    words = " ".join(instruction.split()).rstrip(".")
    if not words:
        raise ConfigError("instruction: expected a sentence, found none.", "Say what the robot should do.")
    return template.replace("{instruction}", words)


class PromptCache:
    """Embeddings of sentences, so that a task's text is encoded once.

    Args:
        pipe: the pipeline.
        max_length: tokens of a text; default: what the pipeline's call uses, which its `encode_prompt` alone does not.
        folder: where embeddings are kept between runs, or None.
        model: what names the model that made them.
    """

    def __init__(
        self, pipe: Any, max_length: int | None = None, *, folder: Path | None = None, model: str = ""
    ) -> None:
        self._folder, self._model = folder, model
        self._pipe = pipe
        length = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
        self._max_length = max_length or (length.default if length is not None else None)
        self._kept: OrderedDict[tuple[str, str, bool], dict[str, Any]] = OrderedDict()

    def arguments(self, prompt: str, negative: str, guided: bool) -> dict[str, Any]:
        """Return the arguments of the pipeline's call that stand for the texts."""
        key = (prompt, negative, guided)
        if key not in self._kept:
            self._kept[key] = self._from_disk(prompt, negative, guided)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return dict(self._kept[key])

    def _from_disk(self, prompt: str, negative: str, guided: bool) -> dict[str, Any]:
        if self._folder is None:
            return self._encode(prompt, negative, guided)
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        parts = (self._model, type(self._pipe).__name__, self._max_length, prompt, negative, guided)
        path = self._folder / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.safetensors"
        try:
            kept: dict[str, Any] = load_file(path, device=str(self._pipe._execution_device))
            return kept
        except (OSError, SafetensorError):  # not there yet, or cut off by a full disk: made anew
            found = self._encode(prompt, negative, guided)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({name: value.cpu().contiguous() for name, value in found.items()}, partial)
        partial.replace(path)
        return found

    def _encode(self, prompt: str, negative: str, guided: bool) -> dict[str, Any]:
        found = self._pipe.encode_prompt(
            prompt=prompt,
            negative_prompt=negative,
            do_classifier_free_guidance=guided,
            device=self._pipe._execution_device,
            **({"max_sequence_length": self._max_length} if self._max_length else {}),
        )
        names = ["prompt_embeds", "negative_prompt_embeds"]
        if len(found) == 4:  # LTX also returns which tokens are text
            names = ["prompt_embeds", "prompt_attention_mask", *names[1:], "negative_prompt_attention_mask"]
        return {name: value for name, value in zip(names, found, strict=True) if value is not None}
