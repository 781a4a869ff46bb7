"""Harm real runs in every way there is, again and again: ``python benchmarks/faults.py --runs N [--json]``.

Plays the scenarios of tests/engine/faults in turn, each time with another seed, which decides the moments and the
victims. After each, the resumed store must be byte-identical to an undisturbed one, ``verify`` clean, at most what
was in flight done again, and no innocent block given up. Ends with 1 if a scenario fails; its folder is kept.
"""

import argparse
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lensflow as lf

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 300.0  # s for one scenario before it is taken for stuck
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def load_suite() -> Any:  # noqa: ANN401 - a package
    """Load the scenarios."""
    name, path = "fault_suite", ROOT / "tests" / "engine" / "faults" / "suite" / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def serve(suite: Any) -> None:  # noqa: ANN401
    """Play what is asked for, a line of JSON each, and answer with a line each, on a cluster that is kept warm."""
    answers, sys.stdout = sys.stdout, sys.stderr
    with (
        tempfile.TemporaryDirectory(prefix="lensflow-reference-") as folder,
        lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client,
    ):
        reference = suite.make_reference(Path(folder), client)
        for line in sys.stdin:
            asked = json.loads(line)
            scenario, place = suite.SCENARIOS[asked["scenario"]], Path(asked["folder"])
            outcome = suite.play(scenario, place, seed=asked["seed"], client=client, reference=reference)
            answers.write(json.dumps(asdict(outcome)) + "\n")
            answers.flush()


class Server:
    """A process that plays scenarios one after another, ended and replaced when one is stuck."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def play(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Play one scenario."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        begun = time.monotonic()
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return json.loads(self._answers.get(timeout=LIMIT))  # type: ignore[no-any-return]
        except (queue.Empty, OSError, ValueError) as error:
            self.end(signal.SIGKILL)
            return {
                "scenario": asked["scenario"],
                "seed": asked["seed"],
                "identical": False,
                "redone": 0,
                "in_flight": 0,
                "innocents": 0,
                "guilty_found": None,
                "seconds": round(time.monotonic() - begun, 2),
                "problems": [f"no outcome ({type(error).__name__}): stuck, or its player has died"],
            }

    def _start(self) -> None:
        command = [sys.executable, __file__, "--serve"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self._answers = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True).start()

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")  # no JSON: it has ended

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the process: kindly by closing what it listens to, or by a signal."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def play_all(suite: Any, asked: Sequence[dict[str, Any]], jobs: int) -> list[dict[str, Any]]:  # noqa: ANN401
    """Play scenarios, some at a time; forget the folders of those that went well."""
    servers: queue.Queue[Server] = queue.Queue()
    for _ in range(jobs):
        servers.put(Server())

    def one(wanted: dict[str, Any]) -> dict[str, Any]:
        server = servers.get()
        try:
            outcome = server.play(wanted)
        finally:
            servers.put(server)
        suite.end_survivors(Path(wanted["folder"]))
        if outcome["problems"]:
            told = [f"--only {wanted['scenario']} --seed {wanted['seed']} --runs 1", wanted["folder"]]
            outcome |= {"repeat": f"python benchmarks/faults.py {told[0]}", "folder": told[1]}
        else:
            shutil.rmtree(wanted["folder"])
        sys.stderr.write(f"{wanted['scenario']} {wanted['seed']}: {outcome['problems'] or 'well'}\n")
        return outcome

    try:
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, asked))
    finally:
        while not servers.empty():
            servers.get().end()


def summary(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count outcomes."""
    found = [one["guilty_found"] for one in outcomes if one["guilty_found"] is not None]
    return {
        "runs": len(outcomes),
        "well": sum(not one["problems"] for one in outcomes),
        "identical": sum(one["identical"] for one in outcomes),
        "redone_max": max((one["redone"] for one in outcomes), default=0),
        "in_flight": max((one["in_flight"] for one in outcomes), default=0),
        "redone_more_than_in_flight": sum(one["redone"] > one["in_flight"] for one in outcomes),
        "innocents": sum(one["innocents"] for one in outcomes),
        "guilty_found": f"{sum(found)} of {len(found)}",
        "seconds": round(sum(one["seconds"] for one in outcomes), 1),
    }


def main() -> None:
    """Play as many scenarios as are asked for."""
    suite = load_suite()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=len(suite.SCENARIOS), help="scenarios to play, all in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each further round adds one")
    parser.add_argument("--only", default="", help="names to play, or their beginnings, with commas: kill-,poison-")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios played at a time")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for variable in THREADS:
        os.environ.setdefault(variable, "1")
    if given.serve:
        serve(suite)
        return
    names = [name for name in suite.SCENARIOS if name.startswith(tuple(given.only.split(",")))]
    if not names:
        sys.exit(f"--only: found {given.only!r}, expected the beginning of one of {', '.join(suite.SCENARIOS)}")
    place, begun = Path(tempfile.mkdtemp(prefix="lensflow-faults-")), time.monotonic()
    asked = []
    for number in range(given.runs):
        seed, name = given.seed + number // len(names), names[number % len(names)]
        folder = place / f"{name}-{seed}"
        folder.mkdir()
        asked.append({"scenario": name, "seed": seed, "folder": str(folder)})
    outcomes = play_all(suite, asked, given.jobs)
    failures = [one for one in outcomes if one["problems"]]
    if not failures:
        shutil.rmtree(place)
    by_name = {name: summary([one for one in outcomes if one["scenario"] == name]) for name in names}
    total = {**summary(outcomes), "wall_seconds": round(time.monotonic() - begun, 1)}
    report(total, by_name, failures, as_json=given.json)
    sys.exit(1 if failures else 0)


def report(
    total: dict[str, Any], by_name: dict[str, dict[str, Any]], failures: list[dict[str, Any]], *, as_json: bool
) -> None:
    """Print what came of it all."""
    if as_json:
        print(json.dumps({**total, "by_scenario": by_name, "failures": failures}))
        return
    for name, one in {**by_name, "all": total}.items():
        print(f"{name:>26}  {one['well']} of {one['runs']} well, redone {one['redone_max']} of {one['in_flight']}")
    for one in failures:
        print(f"\n{one['scenario']} {one['seed']}: {one['folder']}\n  {one['repeat']}", *one["problems"], sep="\n  ")


if __name__ == "__main__":
    main()
