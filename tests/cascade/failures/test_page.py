import re

import numpy as np
import pytest

from cascade.failures.page import markdown, write_failures


def row(task="hammer", seed=100, failure=None, success=False, picture=None, reason="It <slipped>."):
    values = {"task": task, "seed": seed, "camera": "corner", "success": success}
    if failure:
        values["diagnosis"] = {"class": failure, "reason": reason, "perfect_plan": True, "picture": picture}
    return values


ROWS = [
    row(failure="slipped", picture="pictures/a.webp"),
    row(seed=101, failure="slipped"),
    row("door-open", failure="plan wrong"),
    row("door-open", 101, success=True),
    row("assembly", success=True),
]


def cells(text):
    return {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines()}


def test_the_table_counts_by_task_and_class_and_keeps_tasks_that_never_failed():
    table = cells(markdown(ROWS))
    head = table["task"]
    assert table["hammer"][head.index("slipped")] == "2"
    assert table["hammer"][head.index("failed")] == "2 of 2"
    assert table["door-open"][head.index("plan wrong")] == "1"
    assert table["door-open"][head.index("failed")] == "1 of 2"
    assert table["assembly"][head.index("failed")] == "0 of 1"
    assert table["all"][head.index("slipped")] == "2"
    assert table["all"][head.index("failed")] == "3 of 5"
    assert "not looked into" not in head


def test_failures_without_a_diagnosis_are_said():
    table = cells(markdown([*ROWS, row("assembly", 101)]))
    assert table["assembly"][table["task"].index("not looked into")] == "1"
    assert table["all"][table["task"].index("not looked into")] == "1"


def test_the_page_has_a_picture_of_each_class_and_needs_nothing_else(tmp_path):
    import cv2

    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.webp"), np.zeros((8, 8, 3), dtype=np.uint8))
    page = write_failures(ROWS, tmp_path, "the suite").read_text()
    assert page.count("<img ") == 1  # one class has no picture, and says so
    assert "No picture" in page
    assert "Slipped: 2" in page
    assert "Plan wrong: 1" in page
    assert "Timeout" not in page
    assert "It &lt;slipped&gt;." in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert cells((tmp_path / "failures.md").read_text())["all"][0] == "3 of 5"


@pytest.mark.parametrize("rows", [[], [row("assembly", success=True)]])
def test_a_page_without_failures_is_a_page(tmp_path, rows):
    assert "Why episodes failed" in write_failures(rows, tmp_path, "none").read_text()
