"""Hands read from videos: they are what is learnt, and what the robot recorded is not looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from cascade.contracts import DataError
from planner.training.data import HeldOut, load_tracks
from planner.training.hands import load_hands


@dataclass(frozen=True)
class Recorded:
    """Episodes whose recorded hand may be poisoned."""

    source: Any
    poison: bool = False
    digest: str = "recorded"

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        episode = self.source[index]
        if not self.poison or episode.seed == 0:  # seed 0 is held out below
            return episode
        count = len(episode.ee_position_m)
        return replace(
            episode, ee_position_m=np.full((count, 3), np.nan), gripper_opening=np.full(count, np.nan), action=None
        )


@pytest.fixture
def hands_file(tmp_path, source_factory):
    """Readings of four episodes, each 1 cm beside the truth."""
    source, rows = source_factory(4), []
    for index in range(len(source)):
        episode = source[index]
        rows.append((episode.ee_position_m + 0.01, episode.gripper_opening, episode.task, episode.seed))
    path = tmp_path / "hands.npz"
    np.savez(
        path,
        position_m=np.concatenate([row[0] for row in rows]).astype(np.float32),
        opening=np.concatenate([row[1] for row in rows]).astype(np.float32),
        task=np.array([row[2] for row in rows]),
        seed=np.array([row[3] for row in rows]),
        length=np.array([len(row[0]) for row in rows]),
    )
    return path


def tracks_of(source, hands):
    return load_tracks(source, cameras=("corner",), size=128, held_out=HeldOut(0.0, 0, 0), hands=hands)


def test_the_hand_that_was_read_is_learnt_and_the_recorded_one_never_looked_at(hands_file, source_factory):
    hands = load_hands((hands_file,))
    learnt = tracks_of(Recorded(source_factory(4), poison=True), hands)
    recorded = tracks_of(Recorded(source_factory(4)), None)
    for ours, theirs in zip(learnt, recorded, strict=True):
        off = 0.0 if ours.held_out else 0.01
        np.testing.assert_allclose(ours.position_m, theirs.position_m + off, atol=1e-6)
        assert np.isfinite(ours.uv).all()
        assert (ours.uv == theirs.uv).all() == ours.held_out
        assert ours.teaches
        assert ours.labelled


def test_an_episode_that_was_not_read_is_an_error(hands_file, source_factory):
    with pytest.raises(DataError, match=r"hands: expected readings .* found none"):
        tracks_of(Recorded(source_factory(6)), load_hands((hands_file,)))


def test_an_episode_in_which_the_hand_could_not_be_read_is_passed_over(hands_file, source_factory):
    with np.load(hands_file) as file:
        parts = dict(file)
    keep = np.repeat(parts["seed"] != 2, parts["length"])
    parts["position_m"], parts["opening"] = parts["position_m"][keep], parts["opening"][keep]
    parts["length"] = np.where(parts["seed"] == 2, 0, parts["length"])
    np.savez(hands_file, **parts)
    assert len(tracks_of(source_factory(4), load_hands((hands_file,)))) == 3


@pytest.mark.parametrize("change", ["missing", "cut", "key", "count", "nan", "nan opening"])
def test_a_file_that_does_not_hold_readings_is_an_error(hands_file, change):
    with np.load(hands_file) as file:
        parts = dict(file)
    if change == "missing":
        hands_file.unlink()
    elif change == "cut":
        hands_file.write_bytes(hands_file.read_bytes()[:-30])
    else:
        if change == "key":
            del parts["opening"]
        elif change == "count":
            parts["length"] = parts["length"] + 1
        else:
            parts["opening" if "opening" in change else "position_m"][3] = np.nan
        np.savez(hands_file, **parts)
    with pytest.raises(DataError, match="expected"):
        load_hands((hands_file,))
