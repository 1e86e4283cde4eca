"""Time and memory of training on many rows, compared with the public tutorial's pipeline.

Each contender runs in a process of its own. It reads the same Parquet files, trains about
100 trees (or a logistic regression) and scores the same later rows:

* ours: ``ProspectModel.fit(folder)``, streamed into XGBoost's quantile matrix;
* ours on disk: the same with ``cache=``, external memory;
* public: pandas, OneHotEncoder + StandardScaler, XGBClassifier (the tutorial's);
* forest: the same encoders with HistGradientBoostingClassifier;
* logistic: the same encoders with LogisticRegression (the current tutorial).

Usage: ``python benchmarks/training.py [rows ...]`` (default 1000000 and 10000000). A contender is
stopped after ``TIME_LIMIT`` seconds, and the result says so. Results go to
``benchmarks/results/training.json``; read them as ratios within a run.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from figures import save

from prospect_lib.problem import tutorial_problem

CONTENDERS = ("ours", "ours on disk", "public", "forest", "logistic")
#: The slow ones run at the smaller size only.
SIZES = {1_000_000: CONTENDERS, 10_000_000: ("ours", "public")}
PART, TEST, ROUNDS, TIME_LIMIT = 500_000, 100_000, 100, 300
START = datetime(2026, 1, 1, tzinfo=UTC)
#: The same step size for all, suited to 100 trees.
ETA = 0.1
CATEGORIES = {"latest_app_id": 2, "latest_device_class": 5, "first_refr_medium_l30d": 5}


def rows(count: int, seed: int) -> pa.Table:
    """Return page views with a planted signal: pricing views, form engagements, medium."""
    rng = np.random.default_rng(seed)
    columns = {
        "domain_userid": pa.array(
            np.char.add("v", (np.arange(count) // 25 + seed * count).astype(str))
        ),
        "anchor_ts": pa.array(
            np.datetime64(START.replace(tzinfo=None), "us")
            + rng.integers(0, 60 * 86_400_000_000, count).astype("timedelta64[us]"),
            pa.timestamp("us", "UTC"),
        ),
    }
    pricing, forms = rng.poisson(0.5, count), rng.poisson(0.2, count)
    medium = rng.integers(0, 6, count)
    margin = -4.5 + 0.9 * np.minimum(pricing, 3) + 1.4 * (forms > 0) + 0.5 * (medium == 2)
    columns["label"] = pa.array(rng.random(count) < 1 / (1 + np.exp(-margin)))
    for feature in tutorial_problem.features:
        if feature.kind == "category":
            codes = (
                medium
                if feature.name.startswith("first_mkt")
                else rng.integers(0, CATEGORIES.get(feature.name, 6), count)
            )
            names = np.array([f"value {i}" for i in range(6)])
            columns[feature.name] = pa.array(names[codes], mask=rng.random(count) < 0.1)
        elif feature.kind == "flag":
            columns[feature.name] = pa.array(rng.random(count) < 0.05)
        else:
            values = rng.poisson(3, count)
            if "pricing" in feature.name:
                values = pricing
            elif "form" in feature.name:
                values = forms
            columns[feature.name] = pa.array(values.astype(np.int64), mask=values == 0)
    columns["day_of_week"] = pa.array(rng.integers(1, 8, count))
    return pa.table(columns)


def write(folder: Path, count: int) -> None:
    """Write training rows in several files, and one file of test rows."""
    (folder / "train").mkdir()
    for part in range(-(-count // PART)):
        size = min(PART, count - part * PART)
        pq.write_table(rows(size, part), folder / "train" / f"{part:04}.parquet")
    pq.write_table(rows(TEST, 10_000), folder / "test.parquet")


def ours(folder: Path, cache: Path | None) -> tuple[float, np.ndarray]:
    """Return the seconds to train and the scores of the test rows."""
    from prospect_lib.model.prospect_model import ProspectModel
    from prospect_lib.model.training import Recipe

    recipe = Recipe({**Recipe().params, "eta": ETA}, rounds=ROUNDS)
    start = time.perf_counter()
    model = ProspectModel.fit(
        folder / "train", problem=tutorial_problem, recipe=recipe, cache=cache
    )
    seconds = time.perf_counter() - start
    return seconds, model.predict(pq.read_table(folder / "test.parquet"))


def pipeline(folder: Path, name: str) -> tuple[float, np.ndarray]:
    """Return the same for a scikit-learn pipeline."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from xgboost import XGBClassifier

    classifier = {
        "public": XGBClassifier(n_estimators=ROUNDS, eval_metric="logloss", random_state=0),
        "forest": HistGradientBoostingClassifier(max_iter=ROUNDS, early_stopping=False),
        "logistic": LogisticRegression(max_iter=1000),
    }[name]
    categories = [f.name for f in tutorial_problem.features if f.kind == "category"]
    numbers = [f.name for f in tutorial_problem.features if f.kind == "number"]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=name == "logistic")
    encode = ColumnTransformer([("num", StandardScaler(), numbers), ("cat", one_hot, categories)])
    start = time.perf_counter()
    frame = prepared(ds.dataset(folder / "train", format="parquet").to_table().to_pandas())
    model = make_pipeline(encode, classifier).fit(frame[[*numbers, *categories]], frame["label"])
    seconds = time.perf_counter() - start
    test = prepared(pq.read_table(folder / "test.parquet").to_pandas())
    return seconds, model.predict_proba(test[[*numbers, *categories]])[:, 1]


def prepared(frame):
    """Replace missing counts by 0 and missing categories by '', as the tutorial does."""
    for feature in tutorial_problem.features:
        frame[feature.name] = frame[feature.name].fillna("" if feature.kind == "category" else 0)
    return frame


def contend(name: str, folder: Path) -> None:
    """Run one contender and print its result as one line of JSON."""
    from sklearn.metrics import log_loss, roc_auc_score

    if name.startswith("ours"):
        cache = folder / "cache" if name == "ours on disk" else None
        seconds, scores = ours(folder, cache)
    else:
        seconds, scores = pipeline(folder, name)
    label = pq.read_table(folder / "test.parquet", columns=["label"])["label"].to_numpy()
    figures = {
        "seconds": round(seconds, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "roc_auc": round(roc_auc_score(label, scores), 4),
        "log_loss": round(log_loss(label, scores), 5),
    }
    print(json.dumps(figures))


def measure(count: int, contenders: tuple[str, ...]) -> dict[str, object]:
    """Run contenders on the same rows, one after the other.

    Args:
        count: number of training rows.
        contenders: their names.
    """
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, count)
        for contender in contenders:
            results[contender] = run(contender, folder)
            print(f"{contender:14} {results[contender]}", flush=True)
    return results


def run(contender: str, folder: Path) -> dict[str, object]:
    """Run one contender in a process of its own, for at most ``TIME_LIMIT`` seconds."""
    command = [sys.executable, __file__, "--contender", contender, str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT, check=True
        )
        result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        result = {"stopped_after_seconds": TIME_LIMIT}
    except subprocess.CalledProcessError as error:
        result = {"failed": (error.stderr or "killed").strip().splitlines()[-1:]}
    return result


def main() -> None:
    """Measure at each size and save the results."""
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2], Path(sys.argv[3]))
        return
    results = {}
    for size in [int(argument) for argument in sys.argv[1:]] or SIZES:
        print(f"{size:,} rows", flush=True)
        results[str(size)] = measure(size, SIZES.get(size, CONTENDERS))
    save("training", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
