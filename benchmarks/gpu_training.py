"""Uses every minute of a rented machine: records and trains the embedded planner side by side, in a budget of minutes.

    python benchmarks/gpu_training.py -o train/gpu --minutes 28 --jobs 14
    python benchmarks/gpu_training.py --join train/gpu/pieces -o train/gpu-weights

`cascade record` draws episodes in processes of its own, in rounds that each hold twice the layouts of the one before;
the auto-encoder begins with the first round, and a stage starts afresh from its checkpoint whenever the data have
doubled. The stages are those of `cascade train planner`, on CUDA in bfloat16 where there is one, else on the CPU.
A checkpoint is written every minute. Killed at any moment, the same command goes on: what is recorded stays, and the
minutes count only while it runs. The weights are exported in pieces of at most `--piece-mib`, with check sums and card.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cascade.config import Loaded, override
from cascade.contracts import EpisodeSource
from cascade.contracts.errors import CascadeError, ConfigError, DataError
from cascade.dataset.reader import open_datasets
from cascade.plugins import build_plugin
from cascade.suites import expand_tasks
from planner.shards import join_folder, split_folder

SHARES = {"autoencoder": 0.15, "sketch": 0.0, "regression": 0.65, "flow": 0.12, "readout": 0.08}
EXPORT_SHARE = 0.03  # of the budget, kept for writing the weights
LEAST_MINUTES = 0.05  # a stage that is due gets at least this, however late it is
BEAT_S = 2.0
LOOK_S = 10.0  # between looks at how many episodes there are
CUDA_BATCH, CUDA_FRAMES = 128, 48


@dataclass
class Ledger:
    """What one run has spent and decided, kept in a file so that the next session goes on from it.

    Attributes:
        path: of the file.
        spent_s: seconds of all sessions.
        minutes: of the stages that have begun.
        done: names of the stages that are over.
    """

    path: Path
    spent_s: float
    minutes: dict[str, float]
    done: list[str]

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Read the file, or begin a new one."""
        if not path.is_file():
            return cls(path, 0.0, {}, [])
        found = json.loads(path.read_text())
        return cls(path, found["spent_s"], found["minutes"], found["done"])

    def save(self) -> None:
        """Replace the file as a whole."""
        partial = self.path.with_suffix(".partial")
        values = {"spent_s": round(self.spent_s, 1), "minutes": self.minutes, "done": self.done}
        partial.write_text(json.dumps(values, indent=1) + "\n")
        partial.replace(self.path)


def stage_minutes(budget_min: float, spent_s: float, shares: dict[str, float], done: Sequence[str], name: str) -> float:
    """Return the minutes of a stage that begins now: its share of what is left among the stages that are left."""
    if shares[name] <= 0:
        return 0.0
    left = budget_min * (1 - EXPORT_SHARE) - spent_s / 60
    rest = sum(share for stage, share in shares.items() if stage not in done)
    return max(LEAST_MINUTES, left * shares[name] / rest)


def rounds(episodes: int, first: int) -> list[int]:
    """Return how many episodes of each task are there after each round: `first`, twice that, and so on."""
    counts = [min(first, episodes)] if episodes else []
    while counts and counts[-1] < episodes:
        counts.append(min(2 * counts[-1], episodes))
    return counts


class Recording:
    """`cascade record` in processes of its own, round after round; ends with this process, however that ends."""

    def __init__(self, args: argparse.Namespace, folder: Path, log: Path) -> None:
        self.folder, self._args, self._log = folder, args, log
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self.failed: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def over(self) -> bool:
        """Whether no more episodes will come."""
        return not self._thread.is_alive()

    def __enter__(self) -> Recording:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        args = self._args
        command = [
            sys.executable,
            "-c",
            "from cascade.cli.app import main; main()",
            "record",
            "--tasks",
            args.tasks,
            "--seed",
            str(args.seed),
        ]
        command += ["--jobs", str(args.jobs), "--every", str(args.every), "-o", str(self.folder)]
        command += ["--cameras", args.cameras] if args.cameras else []
        with self._log.open("ab") as log:
            for count in rounds(args.episodes, args.first):
                if self._stop.is_set():
                    return
                whole = [*command, "--episodes", str(count)]
                self._process = subprocess.Popen(whole, stdout=log, stderr=log, preexec_fn=_end_with_parent)
                if self._process.wait() and not self._stop.is_set():
                    self.failed = f"cascade record ended with {self._process.returncode}; see {self._log}"
                    return


def _end_with_parent() -> None:
    """Ask Linux to interrupt this process once its parent is gone, so that none is left behind by a kill."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background would ignore it
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


class Driver:
    """Waits for data, trains stage after stage, exports."""

    def __init__(self, args: argparse.Namespace, recording: Recording, ledger: Ledger) -> None:
        self._args, self._recording, self._ledger = args, recording, ledger
        self._tasks = set(expand_tasks(args.tasks)) if args.episodes else set()
        self._shares = {**SHARES, **_shares(args.share)}
        self._read = 0  # episodes that the stage at work has read
        self._refresh = False
        self._training, self._lock = False, threading.Lock()

    def run(self) -> None:
        """Do what the budget allows and leave the weights in pieces."""
        with self._clock():
            for name in SHARES:
                if name in self._ledger.done:
                    continue
                if self._shares[name] > 0:
                    self._stage(name)
                self._ledger.done.append(name)
                self._ledger.save()
            self._export()

    def _stage(self, name: str) -> None:
        self._wait(everything=name != "autoencoder")
        ledger = self._ledger
        if name not in ledger.minutes:
            ledger.minutes[name] = stage_minutes(self._args.minutes, ledger.spent_s, self._shares, ledger.done, name)
            ledger.save()
        print(f"{name}: {ledger.minutes[name]:.2f} minutes", flush=True)
        while True:
            self._refresh = False
            try:
                self._train()
                return
            except KeyboardInterrupt:
                if not self._refresh:
                    raise
                print(f"{name}: goes on with more episodes than {self._read}", flush=True)

    def _train(self) -> None:
        episodes = self._episodes()
        self._read = len(episodes)
        trainer = build_plugin("trainer", "planner", self._options())
        try:
            self._training = True
            trainer.train(episodes, self._args.output / "run", resume=True)
        finally:
            with self._lock:  # an interrupt sent meanwhile arrives before the lock is given up: here, not later
                self._training = False

    def _options(self) -> dict[str, Any]:
        import torch

        cuda = torch.cuda.is_available()
        values: dict[str, Any] = {"checkpoint_minutes": 1.0, "compact": True, "evaluate_minutes": 4.0}
        values |= {"batch": CUDA_BATCH, "autoencoder_batch": CUDA_FRAMES} if cuda else {}
        values |= override(Loaded({}), self._args.set).values
        return {**values, "minutes": {name: self._ledger.minutes.get(name, 0.0) for name in SHARES}}

    def _episodes(self) -> EpisodeSource:
        own = [self._recording.folder] if self._args.episodes else []
        return open_datasets([*own, *self._args.data])

    def _wait(self, *, everything: bool) -> None:
        """Wait for a demonstration to learn from, or for one of every task: no task may come in later."""
        while True:
            try:
                episodes = self._episodes()
                solved = {e.task for e in (episodes[i] for i in range(len(episodes))) if e.success}
            except DataError:
                solved = set()
            if solved and (not everything or solved >= self._tasks):
                return
            if self._recording.over:
                missing = ", ".join(sorted(self._tasks - solved)) or "any"
                raise DataError(
                    f"recording: expected a demonstration that succeeded of {missing}, found none.",
                    self._recording.failed or "Record more with --episodes.",
                )
            time.sleep(BEAT_S)

    def _export(self) -> None:
        args = self._args
        count = split_folder(args.output / "run" / "weights", args.output / "pieces", limit_mib=args.piece_mib)
        print(f"{args.output / 'pieces'}: {count} pieces", flush=True)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Count the minutes, and interrupt a stage once the data have doubled."""
        over = threading.Event()
        watch = threading.Thread(target=self._beat, args=(over,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            self._ledger.save()

    def _beat(self, over: threading.Event) -> None:
        last = looked = time.monotonic()
        while not over.wait(BEAT_S):
            now = time.monotonic()
            self._ledger.spent_s += now - last
            last = now
            self._ledger.save()
            if now - looked < LOOK_S or self._refresh or not self._training:
                continue
            looked = now
            if self._doubled():
                with self._lock:
                    if self._training:
                        self._refresh = True
                        os.kill(os.getpid(), signal.SIGINT)

    def _doubled(self) -> bool:
        try:
            return len(self._episodes()) >= 2 * self._read
        except (DataError, OSError):  # it is being merged at this moment
            return False


def _shares(texts: Sequence[str]) -> dict[str, float]:
    shares = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in SHARES:
            raise ConfigError(f"--share {text}: expected one of {', '.join(SHARES)}.", "Write regression=0.6.")
        shares[name] = float(value)
    return shares


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run, or of joined weights")
    parser.add_argument("--join", type=Path, metavar="PIECES", help="only put pieces together in --output")
    parser.add_argument("--minutes", type=float, default=25.0, help="budget of all sessions together")
    parser.add_argument("--tasks", default="metaworld-11", help="a suite, or names of tasks separated by commas")
    parser.add_argument("--episodes", type=int, default=160, help="of each task to record; 0: only --data")
    parser.add_argument("--first", type=int, default=5, help="episodes of each task in the first round")
    parser.add_argument("--seed", type=int, default=1000, help="first layout")
    parser.add_argument("--every", type=int, default=2, help="keep every n-th control step")
    parser.add_argument("--cameras", help="views to record instead of the suite's")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="recording processes")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="recorded sets to learn from besides")
    parser.add_argument("--share", action="append", default=[], metavar="STAGE=SHARE", help="of the minutes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="trainer option")
    parser.add_argument("--piece-mib", type=float, default=20.0, help="size of exported pieces")
    return parser


def main() -> int:
    """Record, train and export, or join what was exported."""
    args = _parser().parse_args()
    if args.join is not None:
        join_folder(args.join, args.output)
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored
    ledger = Ledger.open(args.output / "ledger.json")
    with Recording(args, args.output / "data", args.output / "recording.log") as recording:
        Driver(args, recording, ledger).run()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CascadeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
