"""`cascade train planner --backend diffusers`: from recorded episodes to a LoRA or a fine-tuned pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cascade.contracts import EpisodeSource
from cascade.contracts.errors import ConfigError, DataError, IncompatibleError
from planner.diffusers_planner.loading import Loaded, load_pipeline
from planner.diffusers_planner.options import DiffusersConfig
from planner.diffusers_planner.prompts import check_profile
from planner.diffusers_planner.sizes import Canvas, choose_canvas, choose_frames
from planner.finetuning.cache import TensorCache
from planner.finetuning.card import finetuned_card
from planner.finetuning.clips import Clip, clip_pixels, list_clips
from planner.finetuning.monitor import Monitor, open_monitor
from planner.finetuning.objectives import choose_objective
from planner.finetuning.options import FinetuneConfig
from planner.finetuning.processes import Processes
from planner.finetuning.samples import Sampler
from planner.finetuning.session import Session, Setup
from planner.finetuning.weights import check_installed, export, place_encoders, prepare_network
from planner.training.checkpoint import load_checkpoint

# What may differ between the sessions of a run; everything else has to stay.
FREE = {
    "steps", "minutes", "device", "threads", "micro_batch", "checkpoint_every", "evaluate_every", "sample_every",
    "sample_steps", "samples", "local_files_only", "gradient_checkpointing", "evaluate_clips",
}  # fmt: skip


class DiffusersTrainer:
    """Fine-tunes an image-to-video pipeline; see docs/add-a-planner.md."""

    def __init__(self, options: FinetuneConfig) -> None:
        self._options = options

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into `output` and return the scores; the LoRA or the pipeline is in `output`/weights.

        Args:
            episodes: demonstrations to learn from.
            output: folder for weights, checkpoint, metrics and samples; all processes need to see it.
            resume: continue the run found there.

        Raises:
            ConfigError: a library is missing, an option does not fit, or `output` holds a run and `resume` is not set.
            DataError: no episode teaches.
            IncompatibleError: the run found there is of other data or options.
            WeightsError: the model is missing or broken.
        """
        check_installed()
        options = self._options
        template = check_profile(options.prompt_profile)
        state = load_checkpoint(output)
        if state is not None and not resume:
            raise ConfigError(f"{output}: holds a training run already.", "Resume it, or choose another folder.")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        identity = _identity(options, episodes.digest)
        if state is not None:
            _check_same(state["identity"], identity)
        processes = Processes(options)
        try:
            return self._train(processes, episodes, output, state, identity, template)
        finally:
            processes.close()

    def _train(
        self,
        processes: Processes,
        episodes: EpisodeSource,
        output: Path,
        state: dict[str, Any] | None,
        identity: str,
        template: str,
    ) -> Mapping[str, Any]:
        options = self._options
        loaded = load_pipeline(_planner_config(options, processes.bfloat16))
        family = loaded.family
        objective = choose_objective(loaded.pipe, family, second=options.second_transformer)
        canvas = choose_canvas(family, options.width_px, options.height_px)
        count = choose_frames(family, options.num_frames)
        loaded.pipe.to(processes.device)
        clips = list_clips(episodes, options, template=template, count=count, fps=family.fps)
        secret = f"{loaded.fingerprint} {loaded.dtype} {canvas} {episodes.digest} {options.camera}"
        cache = TensorCache(output / "encoded", secret)
        with open_monitor(output, loud=processes.first) as monitor:
            monitor.begin("encoding clips")
            encode(processes, episodes, clips, objective, cache, canvas, options.camera, monitor)
            place_encoders(loaded.pipe, options, torch.device("cpu"))
            torch.manual_seed(options.seed)  # the LoRA begins the same everywhere
            network = prepare_network(loaded.pipe, options)
            setup = Setup(
                options=options,
                processes=processes,
                monitor=monitor,
                objective=objective,
                clips=clips,
                cache=cache,
                sampler=_sampler(options, loaded, clips, episodes, output) if processes.first else None,
                output=output,
                identity=identity,
            )
            session = Session(setup, network, state)
            scores = session.run()
        weights = output / "weights"
        if processes.first:
            card = self._card(loaded, clips, episodes.digest, canvas, count, scores)
            export(loaded.pipe, network, options, weights, card)
        processes.wait()
        return {"weights": str(weights), **scores}

    def _card(
        self, loaded: Loaded, clips: list[Clip], digest: str, canvas: Canvas, count: int, scores: Mapping[str, Any]
    ) -> str:
        options, (width, height) = self._options, canvas.size_px
        return finetuned_card(
            {
                "family": loaded.family.name,
                "pipeline": type(loaded.pipe).__name__,
                "model": options.model,
                "fingerprint": loaded.fingerprint,
                "method": options.method,
                "second_transformer": options.second_transformer,
                "planner_options": {
                    "width_px": width,
                    "height_px": height,
                    "num_frames": count,
                    "fps": 0 if options.timing == "progress" else None,
                    "camera": options.camera,
                },
                "data": digest,
                "clips": sum(not clip.held_out for clip in clips),
                "held_out": sum(clip.held_out for clip in clips),
                "options": json.loads(options.model_dump_json()),
                "scores": dict(scores),
                "torch": torch.__version__,
            }
        )


def encode(
    processes: Processes,
    episodes: EpisodeSource,
    clips: list[Clip],
    objective: Any,
    cache: TensorCache,
    canvas: Canvas,
    camera: str,
    monitor: Monitor,
) -> None:
    """Put every clip and sentence into the cache, each made by one of the processes.

    Raises:
        DataError: an encoder said something that is not finite.
    """
    import PIL.Image

    if processes.first:
        for text in sorted({clip.prompt for clip in clips} | {""}):
            cache.fill(f"text {text}", lambda text=text: objective.words(text))  # type: ignore[misc]
    for number in range(processes.rank, len(clips), processes.count):
        clip = clips[number]

        def make(clip: Clip = clip) -> dict[str, torch.Tensor]:
            pixels = clip_pixels(episodes[clip.episode], camera, clip, canvas)
            video = torch.from_numpy(pixels).to(processes.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            made: dict[str, torch.Tensor] = objective.encode(video, PIL.Image.fromarray(pixels[0]))
            if not all(bool(value.isfinite().all()) for value in made.values()):
                raise DataError(
                    f"episode {clip.episode}: expected finite latents, found NaN from the encoder.",
                    "Use mixed_precision: no, or bf16 on a machine that has it.",
                )
            return made

        cache.fill(clip.key(), make)
        monitor.advance((number + 1) / len(clips), f"{number + 1}/{len(clips)}")
    processes.wait()


def _sampler(
    options: FinetuneConfig, loaded: Loaded, clips: list[Clip], episodes: EpisodeSource, output: Path
) -> Sampler | None:
    if not options.sample_every:
        return None
    # Held-out clips first: what was never shown is the better look.
    chosen = sorted(clips, key=lambda clip: not clip.held_out)[: options.samples]
    return Sampler(options, loaded, [(clip, episodes[clip.episode]) for clip in chosen], output / "samples")


def _planner_config(options: FinetuneConfig, bfloat16: bool) -> DiffusersConfig:
    """Frozen weights are kept in the arithmetic that they are used in; trained ones in float32."""
    return DiffusersConfig(
        model=options.model,
        local_files_only=options.local_files_only,
        revision=options.revision,
        variant=options.variant,
        device="cpu",  # the process' own device comes later
        dtype="bfloat16" if bfloat16 and options.method == "lora" else "float32",
    )


def _identity(options: FinetuneConfig, digest: str) -> str:
    kept = json.loads(options.model_dump_json(exclude=FREE))
    return json.dumps({"data": digest, **kept}, sort_keys=True)


def _check_same(found: str, wanted: str) -> None:
    before, now = json.loads(found), json.loads(wanted)
    changed = sorted(key for key in before | now if before.get(key) != now.get(key))
    if changed:
        raise IncompatibleError(
            f"--resume: expected the data and options of the run, found others: {', '.join(changed)}.",
            "Use the same ones, or begin in another folder.",
        )
