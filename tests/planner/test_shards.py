"""Weights in pieces come back bit by bit, and never when a bit is wrong."""

from __future__ import annotations

import json

import pytest

from cascade.contracts import WeightsError
from planner.options import EmbeddedConfig
from planner.plugins import EMBEDDED
from planner.shards import INDEX, MIB, join_folder, split_folder

LIMIT_MIB = 0.05


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def pieces(weights_folder, tmp_path):
    count = split_folder(weights_folder, tmp_path / "pieces", limit_mib=LIMIT_MIB)
    assert count > len(contents(weights_folder))  # something was large enough to be cut
    return tmp_path / "pieces"


def test_pieces_are_small_and_join_to_the_same_weights_that_plan(
    pieces, weights_folder, tmp_path, episode_factory, observe_episode
):
    assert all(len(data) <= LIMIT_MIB * MIB for name, data in contents(pieces).items() if name != INDEX)
    assert (pieces / "MODEL_CARD.md").read_text() == (weights_folder / "MODEL_CARD.md").read_text()
    join_folder(pieces, tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(weights_folder)
    planner = EMBEDDED.build(EmbeddedConfig(weights=tmp_path / "joined"))
    plan = planner.plan(observe_episode(episode_factory(1, "door-open")), "open the door", seed=0)[0]
    assert plan.frames.shape == (17, 128, 128, 3)


@pytest.mark.parametrize("damage", ["flip", "lose", "swap"])
def test_a_damaged_piece_is_named_and_nothing_is_left(pieces, tmp_path, damage):
    first, second = sorted(pieces.rglob("*.part-00[01]"))[:2]
    if damage == "flip":
        data = bytearray(first.read_bytes())
        data[10] ^= 1
        first.write_bytes(data)
    elif damage == "lose":
        first.unlink()
    else:
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)
    with pytest.raises(WeightsError, match=first.name):
        join_folder(pieces, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_an_index_cannot_write_outside_its_folder(pieces, tmp_path):
    index = json.loads((pieces / INDEX).read_text())
    index["files"][0]["path"] = "../elsewhere"
    (pieces / INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="inside the folder"):
        join_folder(pieces, tmp_path / "joined")
    assert not (tmp_path / "elsewhere").exists()


def test_pieces_replace_earlier_ones_but_nothing_else(pieces, weights_folder, tmp_path):
    split_folder(weights_folder, pieces, limit_mib=1000)
    assert not list(pieces.rglob("*.part-*"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(WeightsError, match="other files"):
        split_folder(weights_folder, other, limit_mib=1)
    assert (other / "thesis.txt").read_text() == "mine"
    with pytest.raises(WeightsError, match="expected a folder of weights"):
        split_folder(tmp_path / "none", tmp_path / "new", limit_mib=1)


def test_pieces_say_that_they_are_to_be_joined(pieces):
    with pytest.raises(WeightsError, match="--join"):
        EMBEDDED.build(EmbeddedConfig(weights=pieces))
