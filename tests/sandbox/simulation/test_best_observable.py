"""The best observable score: calibrated, of the events alone, and never passed by a model."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from prospect_lib.aggregation import attribute_values
from prospect_lib.evaluation.baselines import CEILING, LOGISTIC, PRIOR, RULE
from prospect_lib.evaluation.evaluate import MODEL, Evaluation, evaluate
from prospect_lib.evaluation.metrics import Interval, gain_share, visitor_draws
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import Split, honest_split, random_split
from prospect_lib.problem import prospect_problem, tutorial_problem
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.simulation import history, traffic
from prospect_lib.sandbox.simulation.best_observable import BEST, NEEDED, best_observable
from prospect_lib.sandbox.simulation.visitors import Simulation
from prospect_lib.training_set.extract import extract
from prospect_lib.warehouse import DuckDBWarehouse

END = datetime(2026, 1, 5, tzinfo=UTC)
DEVICE = "contexts_nl_basjes_yauaa_context_1"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """A training set of a small world."""
    home = tmp_path_factory.mktemp("world")
    history.write(home, visitors=4000, days=60, end=END, seed=0)
    warehouse = DuckDBWarehouse.over_home(home)
    rows = extract(warehouse, prospect_problem, truth=home / "truth").table
    warehouse.close()
    return rows


def outcomes(large_world: Simulation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The score, the outcome and the visit of every row of the truth."""
    with duckdb.connect() as connection:
        connection.register("events", large_world.events)
        connection.register("truth", large_world.truth)
        rows = connection.execute(
            """
            SELECT t.best_observable AS p, COALESCE(f.sent > t.anchor_ts
              AND f.sent <= t.anchor_ts + INTERVAL 1 HOUR, FALSE) AS y,
              HASH(t.domain_userid, CAST(t.anchor_ts AS DATE)) AS visit
            FROM truth AS t LEFT JOIN (
              SELECT domain_userid, derived_tstamp AS sent FROM events
              WHERE event_name = 'submit_form'
            ) AS f USING (domain_userid)
            WHERE t.anchor_ts < (SELECT MAX(derived_tstamp) FROM events) - INTERVAL 1 HOUR
            """
        ).fetchnumpy()
    return rows["p"], rows["y"].astype(float), rows["visit"]


def test_it_is_calibrated_in_each_decile(large_world: Simulation) -> None:
    p, y, visit = outcomes(large_world)
    decile = np.searchsorted(np.quantile(p, np.linspace(0.1, 0.9, 9)), p, side="right")
    assert len(np.unique(decile)) >= 9, "robots and those who have asked share the lowest"
    for number in np.unique(decile):
        inside = decile == number
        # the moments of one visit share its outcome
        _, code = np.unique(visit[inside], return_inverse=True)
        surprise = np.bincount(code, (y - p)[inside])
        assert abs(surprise.sum()) <= 3 * np.sqrt((surprise**2).sum()) + 1e-9


def test_it_ranks_outcomes_well_but_not_perfectly(large_world: Simulation) -> None:
    p, y, _ = outcomes(large_world)
    assert 0.87 < roc_auc_score(y, p) < 0.95


def test_after_a_form_nothing_is_expected(large_world: Simulation) -> None:
    p, y, _ = outcomes(large_world)
    assert (p[y == 1] > 0).all(), "nothing that happens was impossible"
    with duckdb.connect() as connection:
        connection.register("events", large_world.events)
        connection.register("truth", large_world.truth)
        highest = connection.execute(
            "SELECT MAX(best_observable), COUNT(*) FROM truth AS t JOIN events AS e "
            "USING (domain_userid) WHERE event_name = 'submit_form' AND anchor_ts > derived_tstamp"
        ).fetchone()
    assert highest is not None and highest[0] < 1e-12 and highest[1] > 1000


def test_it_needs_the_events_alone_and_none_that_come_later(large_world: Simulation) -> None:
    visitors = large_world.events["domain_userid"].to_pylist()
    first = large_world.events.slice(0, visitors.index(visitors[20_000])).select(NEEDED)
    whole = best_observable(first)
    noon = np.datetime64("2025-12-05T12:00", "us")
    until = best_observable(first.filter(pa.array(first["derived_tstamp"].to_numpy() < noon)))
    expected = whole.filter(pa.array(whole["anchor_ts"].to_numpy() < noon))
    assert until.num_rows > 500
    np.testing.assert_allclose(until[BEST].to_numpy(), expected[BEST].to_numpy())


def share(evaluation: Evaluation, name: str, weight: np.ndarray | None = None) -> float:
    return gain_share(*(evaluation.rows[n].metrics(weight) for n in (PRIOR, name, CEILING)))


def shares(evaluation: Evaluation, split: Split, name: str) -> Interval:
    draws = visitor_draws(split.test["domain_userid"], resamples=100)
    values = [share(evaluation, name, draw * split.test_weight) for draw in draws]
    return Interval.of(share(evaluation, name), values)


def test_no_model_passes_it_except_under_a_random_split(table: pa.Table) -> None:
    split, by_chance = honest_split(table), random_split(table)
    _, honest = evaluate(split, resamples=2)
    for name in (MODEL, LOGISTIC, RULE):
        assert shares(honest, split, name).low < 1
    assert share(honest, MODEL) > 0.7
    _, tutorial = evaluate(split, resamples=2, problem=tutorial_problem)
    assert share(tutorial, MODEL) < share(honest, MODEL)
    _, flattering = evaluate(by_chance, resamples=2)
    assert share(flattering, MODEL) > share(honest, MODEL) + 0.03


def script() -> list[tuple[str, list[dict[str, object]]]]:
    """The scripted visitor's steps as rows of atomic events."""
    steps = traffic.scripted_visitor("v", "s", "https://s.example", start=END)
    return [
        (name, [enrich(p, at=END, user_agent=traffic.USER_AGENT) for p in payloads])
        for name, payloads in steps
    ]


def rises_and_falls(scores: list[float]) -> None:
    *rising, after = scores
    assert rising == sorted(rising) and len(set(rising)) == len(rising) == 7
    assert after < 0.2 * rising[-1]


def test_the_story_of_the_scripted_visitor_by_the_best_observable_score() -> None:
    rows: list[dict[str, object]] = []
    scores = []
    for _, added in script():
        rows += [
            {n: row.get(n) for n in NEEDED} | {DEVICE: json.dumps(row[DEVICE])} for row in added
        ]
        scores.append(best_observable(pa.Table.from_pylist(rows))[BEST].to_pylist()[-1])
    rises_and_falls(scores)


def test_the_story_of_the_scripted_visitor_by_a_model(table: pa.Table) -> None:
    model = ProspectModel.fit(table, calibrate=False)
    events: list[dict[str, object]] = []
    scores = []
    for _, added in script():
        events += added
        at = datetime.fromisoformat(str(added[-1]["derived_tstamp"])).replace(tzinfo=UTC)
        at += timedelta(milliseconds=20)
        scores.append(model.score(attribute_values(prospect_problem.group, events, at), at).score)
    rises_and_falls(scores)
