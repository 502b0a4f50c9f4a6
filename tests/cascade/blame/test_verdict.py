"""Which stage is named when several checks are above their limits, and when none is."""

import pytest

from cascade.blame.limits import load_limits, shipped_limits
from cascade.blame.verdict import Check, Stage, decide, quantity, weighed, without_single_frames
from cascade.contracts import ConfigError

FAILED = {"status": "done", "outcome": "failed", "failure_stage": "motion"}


def check(stage: Stage, value: float | None, limit: float | None = 1.0) -> Check:
    return Check(stage=stage, name=f"{stage.value} is off by", value=value, limit=limit, unit="m")


@pytest.mark.parametrize(
    ("failed", "named"),
    [
        ((Stage.CALIBRATION, Stage.EXTRACTION), Stage.CALIBRATION),  # a moved camera spoils what is read through it
        ((Stage.GRIPPER, Stage.TRACKING), Stage.GRIPPER),  # what is not held does not hinder the hand
        ((Stage.EXTRACTION, Stage.TRACKING), Stage.TRACKING),
        ((Stage.EXTRACTION,), Stage.EXTRACTION),
        ((), Stage.PLAN),
    ],
)
def test_what_is_upstream_explains_what_is_downstream(failed: tuple[Stage, ...], named: Stage) -> None:
    every = (Stage.EXTRACTION, Stage.TRACKING, Stage.GRIPPER, Stage.CALIBRATION)
    checks = [check(stage, 2.0 if stage in failed else 0.5) for stage in every]
    stage, sentence, suspects = decide(FAILED, checks, shipped_limits())
    assert stage is named
    assert set(suspects) == set(failed) - {named}
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"status": "running"}, Stage.UNKNOWN),
        ({"status": "done", "outcome": "success"}, Stage.NONE),
        ({"status": "done", "outcome": "interrupted"}, Stage.OPERATOR),
        ({"status": "done", "outcome": "error", "failure_stage": "extract"}, Stage.EXTRACTION),
        ({"status": "done", "outcome": "error", "failure_stage": "motion"}, Stage.DEVICE),
        ({"status": "done", "outcome": "rejected", "verdict": "The gate refused the plan: x"}, Stage.PLAN),
        ({"status": "done", "outcome": "rejected", "verdict": "The gate refused the chunk: x"}, Stage.GATE),
        ({"status": "done", "outcome": "failed", "failure_stage": "timeout"}, Stage.TIMEOUT),
    ],
)
def test_an_outcome_without_a_failed_check(facts: dict, named: Stage) -> None:
    assert decide(facts, [check(Stage.TRACKING, 0.5)], shipped_limits())[0] is named


def test_nothing_measured_names_nobody() -> None:
    assert decide(FAILED, [check(Stage.TRACKING, None)], shipped_limits())[0] is Stage.UNKNOWN


@pytest.mark.parametrize("unseen", [Stage.CALIBRATION, Stage.TRACKING, Stage.EXTRACTION])
def test_a_plan_is_not_blamed_by_exclusion_where_another_stage_could_not_be_looked_at(unseen: Stage) -> None:
    every = (Stage.EXTRACTION, Stage.TRACKING, Stage.CALIBRATION)
    checks = [check(stage, None if stage is unseen else 0.5) for stage in every]
    # A figure without a limit weighs nothing.
    stage, sentence, suspects = decide(FAILED, [*checks, check(unseen, 0.5, None)], shipped_limits())
    assert stage is Stage.UNKNOWN
    assert f"plan or {unseen.value}" in sentence
    assert suspects == ()


@pytest.mark.parametrize(("film_m", "named"), [(0.001, Stage.PLAN), (None, Stage.EXTRACTION)])
def test_one_misread_frame_weighs_only_where_no_film_was_read(film_m: float | None, named: Stage) -> None:
    limits = shipped_limits()
    checks = [check(Stage.CALIBRATION, 0.5), check(Stage.TRACKING, 0.5)]
    checks += [weighed("extraction_m", "film", film_m, limits), weighed("start_m", "first frame", 0.4, limits)]
    kept = without_single_frames(checks)
    assert kept[-1].value == 0.4
    assert decide(FAILED, kept, limits)[0] is named


def test_a_success_still_tells_what_was_above_its_limit() -> None:
    facts = {"status": "done", "outcome": "success"}
    assert decide(facts, [check(Stage.EXTRACTION, 2.0)], shipped_limits())[2] == (Stage.EXTRACTION,)


def test_a_check_without_limit_never_fails() -> None:
    assert not check(Stage.PLAN, 99.0, None).failed
    assert check(Stage.PLAN, 99.0).as_json()["margin"] == -98.0


def test_quantities_read_as_people_say_them() -> None:
    assert quantity(0.0123, "m") == "12.3 mm"
    assert quantity(0.5, "of 1") == "50%"


def test_broken_limits_are_one_clear_error(tmp_path) -> None:
    path = tmp_path / "limits.json"
    path.write_text('{"reprojection_px": -1}')
    with pytest.raises(ConfigError, match="expected limits for blame"):
        load_limits(path)
