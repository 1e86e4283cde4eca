"""The prediction server under load for minutes while Signals comes and goes.

Eight clients send requests to a server in a process of its own: known and new visitors, random
bodies, random paths. Every few seconds the stand-in for Signals changes its behaviour: well,
slow, dropping connections, malformed, refusing, dripping; and each time another model is
promoted, or one that is damaged or missing. The log of served scores is on. The run fails on an
undocumented answer, an answer that takes more than 5 s, growing memory, and a model that was
never served.

Usage: ``python benchmarks/soak.py [seconds]`` (default 300). Writes
``benchmarks/results/soak.json``; exit code 1 if the run failed.
"""

import http.client
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.fake_signals import TOKEN, FakeSignals

RESULTS = Path(__file__).parent / "results" / "soak.json"
ALLOWED = {200, 400, 401, 403, 404, 405, 413, 415, 422, 503}
MODES = ("ok", "ok", "slow", "ok", "drop", "ok", "body", "ok", "503", "401", "ok", "headers")
MODELS = ("first", "second", "damaged", "first", "missing")
PAGE = resource.getpagesize()


def serve(signals: str, home: Path, port: "multiprocessing.Queue[int]") -> None:
    """Serve a folder of models."""
    from prospect_lib.model.prospect_model import ProspectModel
    from prospect_lib.model.training import Recipe
    from prospect_lib.server import attribute_cache
    from prospect_lib.server.app import Server, create_app
    from prospect_lib.settings import Settings
    from prospect_lib.signals import AttributeReader, Token
    from tests.support.synthetic import training_table

    attribute_cache.MAX_VISITORS = 1000  # full within a minute: later growth is a leak
    models = home / "models"
    for rounds, name in ((50, "first"), (40, "second"), (30, "damaged")):
        recipe = Recipe(rounds=rounds)
        model = ProspectModel.fit(training_table(300), recipe=recipe, calibrate=False)
        model.save(models / name)
    (models / "damaged" / "model.ubj").write_bytes(b"damaged")
    promote(home, "first")
    values = {"SP_SANDBOX_URL": signals, "SP_SANDBOX_TOKEN": TOKEN}
    reader = AttributeReader(signals, Token(lambda: TOKEN), "service", timeout=0.5)
    app = create_app(models, reader, Settings(home=home, values=values))
    port.put(Server(app, port=0).start().port)
    threading.Event().wait()


def promote(home: Path, name: str) -> None:
    """Promote a model, whether it exists or not."""
    (home / "models" / "current").write_text(name)


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE / 1e6


def random_request(
    rng: random.Random, visitors: list[str]
) -> tuple[str, str, bytes, dict[str, str]]:
    """Return a request: mostly a valid one, sometimes random."""
    headers = {"Content-Type": "application/json"}
    kind = rng.random()
    if kind < 0.7:
        visitor = rng.choice(visitors) if kind < 0.6 else str(uuid.UUID(int=rng.getrandbits(128)))
        return "POST", "/predict", json.dumps({"domain_userid": visitor}).encode(), headers
    if kind < 0.9:
        return "POST", "/predict", rng.randbytes(rng.randrange(5000)), headers
    path = "/" + "".join(rng.choices("abcdefghijklmnop/.%~?=&-_0123456789", k=rng.randrange(40)))
    return rng.choice(["GET", "POST", "PUT"]), path, b"", headers


def client(port: int, seed: int, until: float, seen: Counter[Any], slow: list[float]) -> None:
    """Send requests with short pauses until the time is up."""
    rng = random.Random(seed)
    visitors = [str(uuid.UUID(int=number)) for number in range(50)]
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            link.request(*random_request(rng, visitors))
            answer = link.getresponse()
            body = answer.read()
            seen[answer.status] += 1
            if answer.status == 200 and body.startswith(b'{"signals"'):
                seen[json.loads(body)["model_version"]] += 1
            time.sleep(0.01)
        except (http.client.HTTPException, OSError):
            seen[0] += 1
            link.close()
        took = time.monotonic() - start
        if took > 5:
            slow.append(took)


def change(fake: FakeSignals, home: Path, until: float) -> None:
    """Change the behaviour of Signals and the promoted model again and again."""
    fake.delay, fake.body = 2.0, b"<html>"
    for number, mode in enumerate(MODES * 1000):
        if time.monotonic() >= until:
            return
        fake.mode = mode
        promote(home, MODELS[number % len(MODELS)])
        fake.calls.clear()
        time.sleep(2 if mode == "ok" else 1)


def main() -> int:
    """Run, print, write; return 1 if the run failed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    from tests.support.serving import WARM

    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    with FakeSignals(WARM) as fake, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = context.Process(target=serve, args=(fake.url, home, queue), daemon=True)
        server.start()
        port = queue.get(timeout=120)
        seen: Counter[Any] = Counter()
        slow: list[float] = []
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=client, args=(port, seed, until, seen, slow))
            for seed in range(8)
        ]
        threads.append(threading.Thread(target=change, args=(fake, home, until)))
        for thread in threads:
            thread.start()
        memory = []
        while time.monotonic() < until:
            time.sleep(seconds / 30)
            memory.append(memory_mb(server.pid or 0))
        for thread in threads:
            thread.join()
        server.kill()
        server.join()
    result = report(seconds, seen, slow, memory)
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


def report(
    seconds: float, seen: Counter[Any], slow: list[float], memory: list[float]
) -> dict[str, Any]:
    """Return what was seen, and whether the run passed."""
    third = len(memory) // 3
    early, late = max(memory[third : 2 * third]), max(memory[2 * third :])
    statuses = {status: seen[status] for status in sorted(s for s in seen if isinstance(s, int))}
    versions = {version: seen[version] for version in seen if isinstance(version, str)}
    right = statuses.keys() <= ALLOWED and len(versions) == 2 and not slow
    return {
        "seconds": seconds,
        "requests": sum(statuses.values()),
        "statuses": {str(status): count for status, count in statuses.items()},
        "scores_by_model": versions,
        "slower_than_5_s": len(slow),
        "memory_mb": [round(memory[0], 1), round(early, 1), round(late, 1)],
        "passed": right and late < 1.05 * early,
    }


if __name__ == "__main__":
    sys.exit(main())
