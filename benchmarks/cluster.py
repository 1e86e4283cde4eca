"""Training on a cluster compared with one process: the same rows, rounds and threads.

Two workers of one thread each on this machine (``fit_on_cluster``) and one process of two
threads (``ProspectModel.fit``) run in turns, and are tested on the same later rows. Two
workers on one machine share its memory and processors, so this shows no gain in speed. It
shows that the model is the same, and that no process holds all rows (``peak_mb`` is that of
the largest process). The workers are started before the time is taken, as in a cluster.

``noise`` puts the difference into proportion: the standard error of the mean difference in
log loss between the two, row by row, and the effect of another seed.

Usage: ``python benchmarks/cluster.py [rows]`` (default 1000000). Results go to
``benchmarks/results/cluster.json``; read them as ratios within a run.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from figures import save
from training import ETA, ROUNDS, TEST
from training import rows as simulated

from prospect_lib.problem import tutorial_problem

ROWS, FILES, TURNS, WORKERS = 1_000_000, 4, 3, 2


def peak_mb(_worker: object = None) -> int:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write(folder: Path, count: int) -> None:
    """Write training rows in several files, for the workers to share, and test rows."""
    (folder / "train").mkdir()
    for part in range(FILES):
        pq.write_table(simulated(count // FILES, part), folder / "train" / f"{part:04}.parquet")
    pq.write_table(simulated(TEST, 10_000), folder / "test.parquet")


def recipe(seed: int = 0) -> Any:
    """Return the recipe of all contenders."""
    from prospect_lib.model.training import Recipe

    return Recipe({**Recipe().params, "eta": ETA, "seed": seed}, rounds=ROUNDS)


def alone(folder: Path, seed: int) -> tuple[float, int, Any]:
    """Return seconds, memory and the model of one process."""
    from prospect_lib.model.prospect_model import ProspectModel

    start = time.perf_counter()
    model = ProspectModel.fit(
        folder / "train", problem=tutorial_problem, recipe=recipe(seed), calibrate=False
    )
    return time.perf_counter() - start, peak_mb(), model


def clustered(folder: Path) -> tuple[float, int, Any]:
    """Return the same for two workers; the memory is that of the larger one."""
    from distributed import Client, LocalCluster

    from prospect_lib.model.dask import fit_on_cluster

    with LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0", scheduler_port=0
    ) as cluster:
        start = time.perf_counter()
        model = fit_on_cluster(
            folder / "train",
            cluster.scheduler_address,
            problem=tutorial_problem,
            recipe=recipe(),
        )
        seconds = time.perf_counter() - start
        with Client(cluster.scheduler_address) as client:
            peak = max(client.run(peak_mb).values())
    return seconds, peak, model


def contend(name: str, folder: Path) -> None:
    """Run one contender: print its result as JSON, and save the loss of each row."""
    from sklearn.metrics import average_precision_score, log_loss

    train = clustered if name == "2 workers" else alone
    seed = () if train is clustered else (1 if "seed" in name else 0,)
    seconds, peak, model = train(folder, *seed)
    test = pq.read_table(folder / "test.parquet")
    label, scores = test["label"].to_numpy(), model.predict(test)
    np.save(folder / f"{name}.npy", -np.log(np.where(label, scores, 1 - scores)))
    figures = {
        "seconds": seconds,
        "peak_mb": peak,
        "log_loss": log_loss(label, scores),
        "pr_auc": average_precision_score(label, scores),
    }
    print(json.dumps(figures))


def run(name: str, folder: Path) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--contender", name, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path) -> dict[str, Any]:
    """Run both in turns, and one process with another seed."""
    names = ("one process", "2 workers")
    turns = [{name: run(name, folder) for name in names} for _ in range(TURNS)]
    measured: dict[str, Any] = {name: summary([turn[name] for turn in turns]) for name in names}
    measured["one process, another seed"] = summary([run("one process, another seed", folder)])
    losses = {name: np.load(folder / f"{name}.npy") for name in measured}
    first = losses["one process"]
    apart = losses["2 workers"] - first
    measured["noise"] = {
        "log_loss_apart": round(apart.mean(), 6),
        "standard_error": round(apart.std() / len(apart) ** 0.5, 6),
        "another_seed_apart": round((losses["one process, another seed"] - first).mean(), 6),
    }
    ratios = [turn["2 workers"]["seconds"] / turn["one process"]["seconds"] for turn in turns]
    measured["2 workers: times one process"] = round(statistics.median(ratios), 2)
    measured["ratio of each turn"] = [round(ratio, 2) for ratio in ratios]
    return measured


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """Return the median time, the peak memory, and the metrics, the same in all turns."""
    return {
        "seconds": round(statistics.median(turn["seconds"] for turn in turns), 1),
        "peak_mb": max(turn["peak_mb"] for turn in turns),
        "log_loss": round(turns[0]["log_loss"], 5),
        "pr_auc": round(turns[0]["pr_auc"], 4),
    }


def main() -> None:
    """Measure, print and save the results."""
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], Path(sys.argv[3]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), rows)
        measured = measure(Path(name))
    results = {"rows": rows, "rounds": ROUNDS, **measured}
    save("cluster", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
