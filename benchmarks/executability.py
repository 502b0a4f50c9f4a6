"""Does A, or p_exec, tell which plans reach their goal? Good and spoiled plans, followed in simulation.

python benchmarks/executability.py run -o runs/executability --episodes 14      # resumable, about 2 s of CPU per trial
python benchmarks/executability.py score -o runs/executability                  # cues and baselines of every trial
python benchmarks/executability.py table benchmarks/results/executability.jsonl.gz --svg docs/executability.svg
python benchmarks/executability.py fit benchmarks/results/executability.jsonl.gz --trials runs/executability
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration_gate.calibration import GateCalibration
from cascade.calibration_gate.fitting import calibrate, reading_of_trial
from cascade.calibration_gate.session import Session, fit_session_goals, limits_of, run_session_trials, session_value
from cascade.calibration_gate.trials import read_rows
from cascade.calibration_gate.tube import farthest_m
from cascade.config import load_recipe, load_rig
from cascade.executability import CUE_SETS, fit, out_of_fold
from cascade.metrics import visual
from cascade.metrics.cues import DEFINITION, Cues
from cascade.metrics.cues import cues_of as cues_of_plan
from cascade.metrics.discrimination import (
    auroc,
    average_precision,
    bootstrap,
    brier,
    calibration_error,
    reliability,
    risk_coverage,
)
from cascade.metrics.image_motion import Flow, dense_flow
from cascade.metrics.paths import path_length
from cascade.metrics.physical import motion_mask_iou
from cascade.metrics.tube import tube_error
from cascade.statistics import wilson
from cascade.suites import find_suite

WORST = -1e6  # score of what is refused because nothing moves
Row = dict[str, Any]


def session(first: int, episodes: int) -> Session:
    """Return the study's session: recipe unipi on the simulated rig."""
    return Session(
        rig=load_rig("sim"),
        recipe=load_recipe("unipi"),
        tasks=find_suite("metaworld-11").tasks,
        seeds=tuple(range(first, first + episodes)),
        demonstrations=60,
    )


def run(output: Path, first: int, episodes: int) -> None:
    """Run the trials that are missing."""
    output.mkdir(parents=True, exist_ok=True)
    run_session_trials(
        session(first, episodes), output, lambda part, done, of: print(f"{part} {done}/{of}", flush=True)
    )


def score(output: Path, results: Path) -> None:
    """Compute cues and baselines of every finished trial and write one line per trial."""
    one = session(100, 1)
    goals, value, limits = fit_session_goals(one, output), session_value(one), limits_of(one.rig)
    known = {row["key"]: row for row in read_rows(output / "scores.jsonl") if row.get("cues_by") == DEFINITION}
    rows = [row for row in read_rows(output / "trials.jsonl") if not row["error"]]
    with (output / "scores.jsonl").open("a", encoding="utf-8") as file:
        for row in rows:
            if row["key"] in known:
                continue
            with np.load(output / f"{row['key']}.npz") as evidence:
                arrays = {name: evidence[name] for name in evidence.files}
            flow = dense_flow(arrays["frames"])
            cues = cues_of_plan(reading_of_trial(row, arrays, limits), goals, value, flow=flow.forward)
            values = {name: round(number, 5) for name, number in cues.values.items()}
            known[row["key"]] = {
                **row,
                "cues_by": DEFINITION,
                "moves": cues.moves,
                "cues": values,
                "missing": dict(cues.missing),
                "tube_m": _tube_m(arrays),
                "baselines": baselines(arrays, flow),
            }
            file.write(json.dumps(known[row["key"]]) + "\n")
            file.flush()
            print(".", end="", flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(results, "wb", mtime=0) as packed:
        packed.write("".join(json.dumps(known[row["key"]]) + "\n" for row in rows).encode())


def _tube_m(arrays: Mapping[str, Any]) -> float | None:
    if "measured_m" not in arrays or "targets_m" not in arrays:
        return None
    return farthest_m(arrays["measured_m"], arrays["T_base_ee"][:3, 3], arrays["targets_m"])


def baselines(evidence: Mapping[str, Any], flow: Flow) -> dict[str, float | None]:
    """Return what others would rank plans by; None where nothing moves."""
    frames = evidence["frames"]
    found = {
        "warp_error": visual.warp_error(frames, flow).value,
        "dynamic_degree": visual.dynamic_degree(flow).value,
        "path_m": path_length(evidence["hand_m"]),
        "ssim": None,
        "motion_mask_iou": None,
        "tube": None,
    }
    if "executed" in evidence:
        found["ssim"] = visual.ssim(frames, evidence["executed"]).value
        found["motion_mask_iou"] = motion_mask_iou(frames, evidence["executed"]).value
        found["tube"] = tube_error(
            evidence["hand_m"], evidence["measured_m"][:: max(1, len(evidence["measured_m"]) // 33)]
        ).score
    return found


def load(path: Path) -> list[Row]:
    """Read the stored trials."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def cues_of(row: Row) -> Cues:
    """Return the cues of a stored trial."""
    return Cues(moves=row["moves"], values=row["cues"], missing=row["missing"])


def scores_of(rows: Sequence[Row]) -> dict[str, np.ndarray[Any, Any]]:
    """Return every score of every trial, higher meaning better; p_exec from models that never saw the trial's scene."""
    cues, hits = [cues_of(row) for row in rows], np.array([row["success"] for row in rows])
    scenes = [scene(row) for row in rows]

    def base(name: str, sign: float) -> np.ndarray[Any, Any]:
        values = [row["baselines"][name] for row in rows]
        return np.array([WORST if value is None else sign * value for value in values])

    found = {
        "A (before)": np.array([-c.values["agreement"] if c.moves else WORST for c in cues]),
        "warp error (before)": base("warp_error", -1),
        "path length (before)": base("path_m", 1),
        "dynamic degree (before)": base("dynamic_degree", 1),
        "SSIM, plan and executed (after)": base("ssim", 1),
        "motion-mask IoU (after)": base("motion_mask_iou", 1),
        "tube score, B (after)": base("tube", 1),
    }
    for name in CUE_SETS:
        result = np.full(len(rows), np.nan)
        for poorer in list(CUE_SETS)[list(CUE_SETS).index(name) :]:
            model = fit(poorer, CUE_SETS[poorer], cues, hits, scenes)
            result = np.where(np.isnan(result), out_of_fold(model, cues, hits, scenes), result)
        found[f"p_exec, {name} (before)"] = result
    return found


def scene(row: Row) -> str:
    """Return the layout of a trial."""
    return f"{row['task']}-{row['seed']}"


def unseen_kind(rows: Sequence[Row]) -> dict[str, float]:
    """Return kind -> AUROC among good plans and that kind, by models fitted on other scenes without that kind."""
    found = {}
    for kind in sorted({row["kind"] for row in rows} - {"none"}):
        p, hits = [], []
        for half in (0, 1):
            learn = [row for row in rows if row["seed"] % 2 != half and row["kind"] != kind]
            test = [row for row in rows if row["seed"] % 2 == half and row["kind"] in ("none", kind)]
            models = _models(learn)
            p += [probability(models, cues_of(row)) for row in test]
            hits += [row["success"] for row in test]
        if any(hits) and not all(hits):
            found[kind] = auroc(np.array(p), np.array(hits))
    return found


def _models(rows: Sequence[Row]) -> list[Any]:
    cues, hits = [cues_of(row) for row in rows], np.array([row["success"] for row in rows])
    return [fit(name, names, cues, hits, [scene(row) for row in rows]) for name, names in CUE_SETS.items()]


def probability(models: Sequence[Any], cues: Cues) -> float:
    """Return p_exec by the richest model that answers."""
    return next((model.probability(cues) for model in models if not cues.moves or model.answers(cues)), 0.0)


def table(results: Path, svg: Path | None, trials: Path | None) -> None:
    """Print the tables of docs/consistency.md."""
    rows = load(results)
    hits, scenes = np.array([row["success"] for row in rows]), [scene(row) for row in rows]
    print(f"{len(rows)} trials on {len(set(scenes))} layouts, {hits.sum()} successes\n")
    print("| plan | success | A, median | refused, does not move |\n|---|---|---|---|")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        moving = [row["cues"]["agreement"] for row in mine if row["moves"]]
        worked, still = sum(row["success"] for row in mine), len(mine) - len(moving)
        print(f"| {kind} | {worked}/{len(mine)} | {f'{np.median(moving):.3f}' if moving else ''} | {still or ''} |")
    frozen = [row for row in rows if row["kind"] == "frozen"]
    print(f"\nfrozen plans called consistent: {sum(row['moves'] for row in frozen)} of {len(frozen)}")
    scores = scores_of(rows)
    print("\n| score | AUROC (95 %) | average precision |\n|---|---|---|")
    for name, values in scores.items():
        interval = bootstrap(lambda i, v=values: auroc(v[i], hits[i]), scenes)
        print(f"| {name} | {interval} | {average_precision(values, hits):.3f} |")
    best = scores["p_exec, all cues (before)"]
    for name in ("warp error (before)", "SSIM, plan and executed (after)", "path length (before)"):
        gap = bootstrap(
            lambda i, v=scores[name]: auroc(scores["A (before)"][i], hits[i]) - auroc(v[i], hits[i]), scenes
        )
        print(f"A minus {name}: {gap}")
    poorer = scores["p_exec, no value (before)"]
    gap = bootstrap(lambda i: auroc(best[i], hits[i]) - auroc(poorer[i], hits[i]), scenes)
    print(f"p_exec minus p_exec without the learned value: {gap}")
    print("\nunseen kind:", {k: round(v, 3) for k, v in unseen_kind(rows).items()})
    print(f"\np_exec: Brier {brier(best, hits):.3f}, calibration error {calibration_error(best, hits):.3f}")
    print("| p_exec | success | n |\n|---|---|---|")
    for one in reliability(best, hits):
        print(f"| {one['p']:.2f} | {one['rate']:.2f} ({one['low']:.2f} to {one['high']:.2f}) | {one['n']} |")
    if trials is not None:
        gate_effect(rows, trials)
    if svg is not None:
        figure(scores, hits, svg)


def fitted(rows: Sequence[Row], trials: Path) -> GateCalibration:
    """Return the gate that `cascade train gate` makes of these trials."""
    one = session(100, 1)
    cues = [cues_of(row) for row in rows]
    goals = fit_session_goals(one, trials)
    return calibrate(trials, rows, cues, goals, session_value(one), camera=one.camera, target=one.target)


def gate_effect(rows: Sequence[Row], trials: Path) -> None:
    """Print what a gate calibrated on the first half of the layouts does to the other half."""
    seeds = sorted({row["seed"] for row in rows})
    early = set(seeds[: len(seeds) // 2])
    learn, test = [row for row in rows if row["seed"] in early], [row for row in rows if row["seed"] not in early]
    made = fitted(learn, trials)
    print(f"\ngate of seeds {min(early)} to {max(early)}: p_exec from {made.min_p_exec:.2f}, tube {made.tube_m:.3f} m,")
    print("  " + ", ".join(f"{bound.check} {bound.limit:g} {bound.unit}" for bound in made.bounds))
    hits = np.array([row["success"] for row in test])
    p = np.array([probability(made.models, cues_of(row)) for row in test])
    inside = np.array(
        [not any(b.cue in row["cues"] and b.broken(row["cues"][b.cue]) for b in made.bounds) for row in test]
    )
    moving = np.array([row["moves"] for row in test])
    gates = {
        "no gate": np.ones(len(test), dtype=bool),
        "limits": inside & moving,
        "p_exec": p >= made.min_p_exec,
        "limits and p_exec": inside & moving & (p >= made.min_p_exec),
    }
    told = bootstrap(lambda i: auroc(p[i], hits[i]), [scene(row) for row in test])
    print(f"other layouts: AUROC {told}, Brier {brier(p, hits):.3f}, error {calibration_error(p, hits):.3f}")
    print(
        "| gate | plans let through | success among them | successes lost | failures stopped |\n|---|---|---|---|---|"
    )
    for name, through in gates.items():
        good, count = int(hits[through].sum()), int(through.sum())
        low, high = wilson(good, count)
        lost, stopped = int(hits[~through].sum()), int((~hits[~through]).sum())
        print(
            f"| {name} | {count}/{len(test)} | {good / max(count, 1):.2f} ({low:.2f} to {high:.2f}) "
            f"| {lost}/{hits.sum()} | {stopped}/{(~hits).sum()} |"
        )
    own = np.array([row["kind"] == "none" for row in test])
    left = np.array([(row.get("tube_m") or 0.0) > made.tube_m for row in test])
    good, bad = int((left & hits).sum()), int((left & ~hits).sum())
    print(f"tube of {made.tube_m:.3f} m left: {good} successes, {bad} failures")
    print("good plans let through:", int((gates["limits and p_exec"] & own).sum()), "of", int(own.sum()))
    kinds = dict.fromkeys(row["kind"] for row in test)
    failing = {
        k: [g for r, g in zip(test, gates["limits and p_exec"], strict=True) if r["kind"] == k and not r["success"]]
        for k in kinds
    }
    print("failing plans let through:", {k: f"{sum(v)}/{len(v)}" for k, v in failing.items() if v})


def figure(scores: Mapping[str, Any], hits: Any, path: Path) -> None:
    """Draw risk against coverage and the reliability of p_exec."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "cascade", "font.size": 9})
    from matplotlib import pyplot

    drawing, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    shown = (
        "p_exec, all cues (before)",
        "A (before)",
        "SSIM, plan and executed (after)",
        "path length (before)",
        "warp error (before)",
    )
    for name, style in zip(shown, ("-", "--", "-.", ":", (0, (1, 3))), strict=True):
        coverage, success = risk_coverage(scores[name], hits)
        left.plot(coverage, success, linestyle=style, label=name)
    left.axhline(hits.mean(), color="grey", linewidth=0.8)
    left.set(xlabel="share of plans let through", ylabel="success among them", ylim=(0, 1.02), xlim=(0, 1))
    left.legend(fontsize=7, loc="lower left")
    rows = reliability(scores[shown[0]], hits)
    p, rate = [r["p"] for r in rows], [r["rate"] for r in rows]
    error = [[r["rate"] - r["low"] for r in rows], [r["high"] - r["rate"] for r in rows]]
    right.errorbar(p, rate, yerr=error, fmt="o-", capsize=3)
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    right.set(xlabel="p_exec", ylabel="success rate", xlim=(0, 1), ylim=(0, 1.02))
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("run", "score"):
        part = parts.add_parser(name)
        part.add_argument("-o", "--output", type=Path, default=Path("runs/executability"))
        part.add_argument("--results", type=Path, default=Path("benchmarks/results/executability.jsonl.gz"))
        part.add_argument("--seed", type=int, default=100)
        part.add_argument("--episodes", type=int, default=14)
    part = parts.add_parser("table")
    part.add_argument("results", type=Path)
    part.add_argument("--svg", type=Path)
    part.add_argument("--trials", type=Path, help="folder of the trials: also what a gate does")
    part = parts.add_parser("fit")
    part.add_argument("results", type=Path)
    part.add_argument("--trials", type=Path, required=True)
    part.add_argument("-o", "--output", type=Path, default=Path("configs/gates/unipi-sim"))
    given = parser.parse_args()
    if given.part == "run":
        run(given.output, given.seed, given.episodes)
    elif given.part == "fit":
        fitted(load(given.results), given.trials).save(given.output)
    elif given.part == "score":
        score(given.output, given.results)
    else:
        table(given.results, given.svg, given.trials)


if __name__ == "__main__":
    main()
