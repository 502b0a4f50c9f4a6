from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from planner.phrases import TASKS, TEST_PHRASES, TRAIN_PHRASES, augmented, normalised, task_name


def test_every_task_has_enough_wordings_and_kept_ones():
    assert len(TASKS) == 11
    assert set(TEST_PHRASES) == set(TASKS)
    assert all(len(set(map(normalised, TRAIN_PHRASES[task]))) >= 24 for task in TASKS)
    assert all(len(set(map(normalised, TEST_PHRASES[task]))) >= 3 for task in TASKS)


def test_no_wording_means_two_tasks_and_none_kept_is_trained_on():
    trained = [normalised(p) for phrases in TRAIN_PHRASES.values() for p in phrases]
    kept = [normalised(p) for phrases in TEST_PHRASES.values() for p in phrases]
    assert len(trained) == len(set(trained))
    assert not set(trained) & set(kept)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


def test_normalising_forgets_case_punctuation_and_spaces():
    assert normalised("  Open,  the DOOR!! ") == "open the door"
    assert normalised("counter-clockwise") == "counter clockwise"


def test_variants_keep_the_words():
    rng = random.Random(0)
    assert all("open the door" in augmented("open the door", rng).lower() for _ in range(50))


def test_version_of_a_task_is_dropped():
    assert task_name("door-open-v3") == task_name("door-open") == "door-open"
