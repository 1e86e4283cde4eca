"""The cost of a score: this server against the tutorial's handler, in one run.

The public handler follows Snowplow's tutorial: a Flask handler that calls the SDK, makes a
pandas frame of one row, and runs a scikit-learn pipeline (one-hot, scaler, XGBoost). Its
explanations come from the shap package if it is installed (``pip install shap==0.51.0``),
otherwise from XGBoost's own TreeSHAP on the pipeline's output, which favours the public
handler. Both are served by the same web server, both read the same
stand-in for Signals (a process of its own), both have 100 trees trained on the same rows.

Prints and writes to ``benchmarks/results/serving.json``:

* the attribute call: the SDK's ``get_service_attributes`` against ``AttributeReader``;
* the handler without that call, from WSGI request to WSGI answer with attributes from
  memory, with and without explanations. Ours has its metrics, limits and the log of served
  scores turned on. The tutorial's handler always explains; ``ratio, ours without to public
  with`` compares ours without explanations to it;
* the whole over HTTP: latency (p50, p95, p99) and throughput with 1, 16 and 64 clients.

Usage: ``python benchmarks/serving.py [seconds]`` (default 2 per load, of which there are 12).
Compare figures within one run only.
"""

import contextlib
import http.client
import io
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from figures import save
from flask import Flask, request
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from snowplow_signals import SignalsSandbox
from werkzeug.test import EnvironBuilder
from xgboost import DMatrix, XGBClassifier

from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.features import FEATURES, from_attributes
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.training import Recipe
from prospect_lib.server.app import Options, Server, create_app
from prospect_lib.settings import Settings
from prospect_lib.signals import AttributeReader, Token

try:
    import shap
except ImportError:
    shap = None

VISITOR = "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"
AT = datetime(2026, 11, 23, tzinfo=UTC)
ROWS, ROUNDS, CLIENTS = 20_000, 100, (1, 16, 64)
CATEGORIES = [f.name for f in FEATURES if f.kind == "category"]
NUMBERS = [f.name for f in FEATURES if f.kind != "category"]


def attributes() -> dict[str, Any]:
    """Return one visitor's attributes."""
    values: dict[str, Any] = {}
    for position, attribute in enumerate(prospect_group.attributes):
        of_kind = {"int64": position % 7, "string": "website", "string_list": ["a", "b"]}
        values[attribute.name] = of_kind[attribute.type]
    return values


def training_rows() -> pa.Table:
    """Return rows with a planted signal; their content hardly changes the time."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "domain_userid": [f"v{i // 10}" for i in range(ROWS)],
        "anchor_ts": pa.array([AT] * ROWS, pa.timestamp("us", "UTC")),
    }
    for feature in FEATURES:
        drawn = {
            "number": lambda: rng.poisson(2.0, ROWS),
            "flag": lambda: rng.random(ROWS) < 0.2,
            "category": lambda: rng.choice(["website", "hs-landing", "other"], ROWS),
        }
        columns[feature.name] = drawn[feature.kind]()
    margin = columns["num_pricing_views_l7d"] - 4 + columns["had_conversions_l7d"]
    columns["label"] = rng.random(ROWS) < 1 / (1 + np.exp(-margin))
    return pa.table(columns)


# ---- the two handlers ----


def our_model() -> ProspectModel:
    """Return our trained model."""
    return ProspectModel.fit(training_rows(), recipe=Recipe(rounds=ROUNDS), calibrate=False)


def our_app(profiles: Any, *, explain: bool) -> Flask:
    """Return our application with metrics, limits, and the log of served scores."""
    secrets = {"SP_SANDBOX_URL": "http://127.0.0.1:1", "SP_SANDBOX_TOKEN": "t"}
    settings = Settings(home=Path(tempfile.mkdtemp()), values=secrets)
    return create_app(our_model(), profiles, settings, options=Options(explain=explain))


def public_handler(*, explain: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the public handler, from attributes to answer."""
    frame = training_rows().to_pandas()
    encoders = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
            ("numbers", StandardScaler(), NUMBERS),
        ]
    )
    pipeline = Pipeline(
        [("encode", encoders), ("model", XGBClassifier(n_estimators=ROUNDS, n_jobs=1))]
    )
    pipeline.fit(frame[CATEGORIES + NUMBERS], frame["label"])
    shares_of = explainer(pipeline["model"])
    names = pipeline["encode"].get_feature_names_out()

    def handle(signals: dict[str, Any]) -> dict[str, Any]:
        features = from_attributes(signals, AT)
        row = pd.DataFrame([features])[CATEGORIES + NUMBERS]
        answer = {"signals": signals, "scoring_attributes": features}
        answer["score"] = float(pipeline.predict_proba(row)[0, 1])
        if explain:
            encoded = pipeline["encode"].transform(row)
            shares = pd.Series(shares_of(encoded), index=names).sort_values(
                key=np.abs, ascending=False
            )
            reasons = {name: float(share) for name, share in shares.head(5).items()}
            answer["explanations"] = reasons | {"__sum_of_others": float(shares[5:].sum())}
        return answer

    return handle


def explainer(model: XGBClassifier) -> Callable[[Any], Any]:
    """Return a function from one encoded row to its shares of the score, in log-odds."""
    if shap is not None:
        tree = shap.TreeExplainer(model)
        return lambda encoded: tree.shap_values(encoded)[0]
    booster = model.get_booster()
    booster.set_param({"nthread": 1})
    return lambda encoded: booster.predict(DMatrix(encoded, nthread=1), pred_contribs=True)[0][:-1]


def public_app(read: Callable[[str], dict[str, Any]], *, explain: bool) -> Flask:
    """Return the public application."""
    handle, app = public_handler(explain=explain), Flask("public")

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        return handle(read(request.get_json()["domain_userid"]))

    return app


# ---- processes ----


def serve_signals(port: "multiprocessing.Queue[int]") -> None:
    """Serve one answer of Signals as fast as possible."""
    body = json.dumps({n: [v] for n, v in {"domain_userid": VISITOR, **attributes()}.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_args: object) -> None:
            pass

    class Large(ThreadingHTTPServer):
        request_queue_size = 128

    server = Large(("127.0.0.1", 0), Handler)
    port.put(server.server_port)
    server.serve_forever()


def serve(way: str, explain: bool, signals: str, port: "multiprocessing.Queue[int]") -> None:
    """Serve one of the two applications."""
    if way == "ours":
        app = our_app(AttributeReader(signals, Token(lambda: "t"), "service"), explain=explain)
    else:
        sdk = SignalsSandbox(api_url=signals, sandbox_token="t")
        app = public_app(
            lambda visitor: sdk.get_service_attributes(
                prospect_service.name, "domain_userid", visitor
            ),
            explain=explain,
        )
    server = Server(app, port=0).start()
    port.put(server.port)
    threading.Event().wait()


@contextlib.contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[str]:
    """Run a server in a process of its own; yields its address."""
    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=target, args=(*args, port), daemon=True)
    child.start()
    try:
        yield f"http://127.0.0.1:{port.get(timeout=120)}"
    finally:
        child.kill()
        child.join()


# ---- measuring ----


def in_turns(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return the median milliseconds of each call. They take turns of a tenth of a second, so
    that other load on the machine affects all of them equally."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(max(2, round(10 * seconds))):
        for name, call in calls.items():
            end = time.perf_counter() + 0.1
            while time.perf_counter() < end:
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seen) * 1000 for name, seen in times.items()}


def load(url: str, clients: int, seconds: float) -> dict[str, float]:
    """Return latency (ms) and requests per second of clients with kept connections."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"domain_userid": VISITOR})
    headers = {"Content-Type": "application/json"}
    times: list[float] = []
    begin = threading.Barrier(clients + 1)

    def client() -> None:
        link = http.client.HTTPConnection(host, int(port), timeout=30)
        begin.wait()
        while time.perf_counter() < end:
            start = time.perf_counter()
            link.request("POST", "/predict", body, headers)
            answer = link.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            times.append((time.perf_counter() - start) * 1000)
        link.close()

    end = time.perf_counter() + seconds + 0.2
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    rate = len(times) / (time.perf_counter() - start)
    return {"p50": p50, "p95": p95, "p99": p99, "per_second": rate}


class FromMemory:
    """Attributes from memory."""

    def __init__(self) -> None:
        self.row = attributes()

    def read(self, identifier: str) -> dict[str, Any]:
        """Return the same attributes for every visitor."""
        return {"domain_userid": identifier, **self.row}


def handlers(seconds: float) -> dict[str, Any]:
    """Return milliseconds from request to answer in this process, without the attribute call."""
    apps: dict[str, Flask] = {}
    for explain in (True, False):
        variant = f"{'with' if explain else 'without'} explanations"
        apps[f"ours, {variant}"] = our_app(FromMemory(), explain=explain)
        apps[f"public, {variant}"] = public_app(FromMemory().read, explain=explain)
    times = in_turns(
        {name: lambda app=app: answer(app) for name, app in apps.items()},
        seconds,
    )
    public = times["public, with explanations"]
    return times | {
        "ratio, both with": public / times["ours, with explanations"],
        "ratio, both without": times["public, without explanations"]
        / times["ours, without explanations"],
        "ratio, ours without to public with": public / times["ours, without explanations"],
    }


def answer(app: Flask) -> bytes:
    """Return the body of one answer, from the application itself."""
    environ = dict(_ENVIRON, **{"wsgi.input": io.BytesIO(_BODY)})
    (body,) = app(environ, lambda _status, _headers: None)
    return body


_BODY = json.dumps({"domain_userid": VISITOR}).encode()
_ENVIRON = EnvironBuilder(
    "/predict", method="POST", data=_BODY, content_type="application/json"
).get_environ() | {"REMOTE_ADDR": "127.0.0.1"}


def calls(signals: str, seconds: float) -> dict[str, float]:
    """Return the milliseconds of an attribute call."""
    sdk = SignalsSandbox(api_url=signals, sandbox_token="t")
    reader = AttributeReader(signals, Token(lambda: "t"), prospect_service.name)
    name = prospect_service.name
    return with_ratio(
        in_turns(
            {
                "ours": lambda: reader.read(VISITOR),
                "public": lambda: sdk.get_service_attributes(name, "domain_userid", VISITOR),
            },
            seconds,
        )
    )


def with_ratio(times: dict[str, float]) -> dict[str, float]:
    """Return the two times and their ratio."""
    return {**times, "ratio": times["public"] / times["ours"]}


def over_http(signals: str, seconds: float) -> list[dict[str, Any]]:
    """Return the figures of every load on both servers, with and without explanations."""
    loads = []
    for explain in (True, False):
        for way in ("ours", "public"):
            with process(serve, way, explain, signals) as url:
                load(url, 4, 0.3)
                for clients in CLIENTS:
                    figures = load(url, clients, seconds)
                    loads.append({"way": way, "explain": explain, "clients": clients, **figures})
                    print(rounded(loads[-1]), flush=True)
    return loads


def rounded(value: Any) -> Any:
    """Return the same structure with numbers rounded to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value


def main() -> None:
    """Measure, print, write."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with process(serve_signals) as signals:
        figures = {
            "explainer": f"shap {shap.__version__}" if shap else "XGBoost's TreeSHAP",
            "attribute_call_ms": calls(signals, seconds),
            "handler_ms": handlers(seconds),
            "over_http_ms": over_http(signals, seconds),
        }
    save("serving", rounded(figures), write=not sys.argv[1:])


if __name__ == "__main__":
    main()
