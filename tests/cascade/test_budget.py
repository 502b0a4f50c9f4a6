"""A latency budget: what is chosen, what is refused, and the real stages under it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cascade.budget import Setting, Timing, applied, fit, parse_budget, settings_below
from cascade.compose import compose
from cascade.contracts import ActionChunk, ConfigError

WANTED = Setting(steps=8, samples=4, frames=None)


def chunk():
    return ActionChunk(
        values=np.tile([0, 0, 0, 1.0, 0, 0, 0], (10, 1)), gripper=np.ones(10), times_s=np.arange(1, 11) / 10
    )


def machine(fixed=5.0, step=10.0, sample=0.5, read=20.0):
    """A machine whose times are known: a batch of samples costs half of each sample more."""

    def measure(setting):
        share = 1 + sample * (setting.samples - 1)
        length = (setting.frames or 17) / 17
        return Timing(
            plan_ms=(fixed + step * (setting.steps or 1)) * share * length,
            read_ms=read * setting.samples,
            chunk=chunk(),
        )

    return measure


@pytest.mark.parametrize(("text", "ms"), [("500ms", 500), ("0.5s", 500), (" 2 min", 120_000), ("1s", 1000)])
def test_a_budget_is_a_time_with_its_unit(text, ms):
    assert parse_budget(text) == ms


@pytest.mark.parametrize("text", ["500", "fast", "-1s", "0ms", "1h"])
def test_anything_else_is_a_mistake(text):
    with pytest.raises(ConfigError, match="unit"):
        parse_budget(text)


def test_a_generous_budget_leaves_the_recipe_as_it_is():
    found = fit(1e6, WANTED, machine())
    assert found.setting == WANTED


@settings(deadline=None)
@given(st.floats(36, 2000), st.floats(1, 50), st.floats(0.1, 1.0), st.floats(1, 20))
def test_what_is_chosen_fits_and_nothing_more_wanted_would(budget_ms, step, sample, read):
    measure = machine(step=step, sample=sample, read=read)
    try:
        found = fit(budget_ms, WANTED, measure)
    except ConfigError:
        assert measure(Setting(steps=1, samples=1, frames=None)).total_ms > budget_ms
        return
    assert found.measured_ms <= budget_ms
    better = settings_below(WANTED)[: settings_below(WANTED).index(found.setting)]
    assert all(measure(setting).total_ms > budget_ms * (1 - 1e-9) for setting in better)


def test_what_cannot_be_done_says_what_is_the_least():
    with pytest.raises(ConfigError, match=r"takes 35 ms \(1 step, 1 sample: 15 ms imagining, 20 ms") as caught:
        fit(20, WANTED, machine())
    assert "39 ms" in caught.value.fix


def test_frames_are_given_up_last():
    wanted = Setting(steps=4, samples=1, frames=17)
    measure = machine(read=1.0)
    full = measure(Setting(steps=1, samples=1, frames=17)).total_ms
    assert fit(full, wanted, measure).setting.frames == 17
    short = fit(0.8 * full, wanted, measure).setting
    assert short.frames in (13, 9, 5)
    assert short.frames % 4 == 1


def test_several_samples_are_never_taken_of_one_step():
    assert all(s.steps >= 2 for s in settings_below(WANTED) if s.samples > 1)


def test_the_chunk_covers_the_time_that_the_next_plan_takes():
    slow = fit(1000, WANTED, machine(fixed=300))
    passed = slow.measured_ms / 1000 * 10
    assert slow.receding_targets == min(10, int(np.ceil(passed)))
    assert fit(1000, WANTED, machine(), least_targets=6).receding_targets >= 6


def test_a_prediction_that_was_too_kind_is_not_believed():
    def worse(setting):
        exact = machine()(setting)
        return Timing(plan_ms=exact.plan_ms * (3 if setting.samples == 3 else 1), read_ms=exact.read_ms, chunk=chunk())

    found = fit(200, WANTED, worse)
    assert found.measured_ms <= 200


def test_what_was_chosen_is_set_in_the_recipe():
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="best-of-n")
    found = fit(75, Setting(steps=4, samples=4, frames=None), machine())
    changed = applied(run, found).recipe
    assert changed.planner.options["steps"] == found.setting.steps
    assert changed.sampling.samples == found.setting.samples
    assert changed.execution.receding_targets == found.receding_targets


def test_the_command_keeps_what_it_measured_and_refuses_what_cannot_be(tmp_path):
    import typer

    from cascade.cli.stages import plan

    app = typer.Typer()
    app.command()(plan)
    line = ["open the door", "--planner", "hold", "--set", "gate.motion=false", "--set", "extractor.name=idm"]
    line += [
        "--set",
        "rig.options.arm_process=false",
        "--set",
        "extractor.options.threads=1",
        "-o",
        str(tmp_path / "plan"),
    ]
    done = CliRunner().invoke(app, [*line, "--budget", "60s", "--json"])
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "plan" / "budget.json").read_text())
    assert 0 < kept["measured_ms"] <= 60_000
    assert kept["chosen"]["samples"] == 1
    refused = CliRunner().invoke(app, [*line[:-1], str(tmp_path / "other"), "--budget", "0.01ms"])
    assert isinstance(refused.exception, ConfigError)
    assert "least possible" in str(refused.exception)
    assert not (tmp_path / "other").exists()
