"""One visitor, followed from notebook to notebook, and what each notebook finds in place.

The visitor came back to the website after half a day to six days, and sent a form within the
hour; ``at`` is the moment of that visit at which the question is asked.

Example: ``protagonist(warehouse)`` -> ``Protagonist("7f0c…", datetime(2026, 11, 20, …))``
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import requests

from prospect_lib import sandbox
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.jobs.demo import Demo
from prospect_lib.model.store import promoted_version
from prospect_lib.plots.style import BLUE, GREY, INK, PALE, PAPER, Picture, picture
from prospect_lib.sandbox.simulation import traffic
from prospect_lib.settings import Settings
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.anchors import SITE_ANCHORS
from prospect_lib.warehouse import Warehouse

#: The notebooks, and what the visitor is in each.
CHAPTERS = (
    ("00", "start", "a visit"),
    ("01", "attributes", "19 values,\nkept up to date"),
    ("02", "extract", "a row of\na table"),
    ("03", "train", "a score and\nits reasons"),
    ("04", "serve", "an invitation,\nin time"),
    ("05", "monitor", "a line in\na log"),
)


@dataclass(frozen=True)
class Protagonist:
    """The visitor of the series, and the moment (aware, UTC) of the question."""

    domain_userid: str
    at: datetime


def protagonist(warehouse: Warehouse) -> Protagonist:
    """The same visitor for the same events: of those who came back, who asked most questions.

    Raises:
        DataError: nobody came back after half a day to six days and asked for a demo.
    """
    placed = SITE_ANCHORS.sql(events=warehouse.events, dialect=warehouse.dialect)
    anchors = warehouse.query(placed).to_pandas()
    pause = anchors.groupby("domain_userid")["anchor_ts"].diff()
    returning = anchors[anchors["label"] & pause.between("12h", "6d")]
    if returning.empty:
        raise DataError(
            f"{warehouse.events}: no visitor came back and asked for a demo. Take a longer "
            "history, or choose a visitor of your own."
        )
    visitor = returning["domain_userid"].value_counts(sort=False).idxmax()
    at = returning.loc[returning["domain_userid"] == visitor, "anchor_ts"].iloc[-1]
    return Protagonist(str(visitor), at.to_pydatetime().replace(tzinfo=UTC))


def events_of(warehouse: Warehouse, domain_userid: str) -> list[dict[str, Any]]:
    """All events of one visitor, earliest first, with aware times."""
    visitor = dialect_of(warehouse.dialect).text(domain_userid)
    found = warehouse.query(
        f"SELECT * FROM {warehouse.events} WHERE domain_userid = {visitor} "
        "ORDER BY derived_tstamp, event_name"
    ).to_pylist()
    return [e | {"derived_tstamp": e["derived_tstamp"].replace(tzinfo=UTC)} for e in found]


def ready(settings: Settings, *, model: bool = False) -> None:
    """Whatever an earlier notebook would have left, where it is not there: each can come first.

    On accounts of your own nothing is written. What exists is left as it is, so a restarted
    kernel loses nothing.

    Args:
        model: a promoted model is needed as well.
    """
    if settings.signals_backend != "local":
        return
    demo = Demo(settings, say=lambda _: None)
    if model and promoted_version(demo.models) is None:
        print("Doing what notebooks 00 to 03 would have done; half a minute ...")
        demo.prepare()
    if not (settings.home / "history" / "manifest.json").is_file():
        print("Writing sixty days of simulated visitors, as notebook 00 would have ...")
        demo.write_history()
    sandbox.ensure_running(settings)
    if model:
        demo.publish()


def visit(
    settings: Settings, predict_url: str, domain_userid: str, steps: list[str] | None = None
) -> dict[str, float]:
    """A scripted visit of one visitor, now: the score (0..1) before it and after each step.

    Args:
        steps: some steps of ``traffic.scripted_visitor``, by name; all by default.
    Raises:
        DataError: a step that nobody can take.
        ServiceError: the collector or the prediction server does not answer as agreed.
    """
    session, url, now = str(uuid4()), settings.sandbox_url, datetime.now(UTC)
    script: dict[str, traffic.Payload] = {}
    for name, payload in traffic.scripted_visitor(domain_userid, session, url, start=now):
        script[f"{name} again" if name in script else name] = payload
    wanted = list(script) if steps is None else steps
    if unknown := [step for step in wanted if step not in script]:
        raise DataError(f"steps {unknown}: expected some of {list(script)}.")
    scores = {"arrives": _score(predict_url, domain_userid)}
    for step in wanted:
        traffic.send(url, [traffic.happening_now(script[step])])
        scores[step] = _score(predict_url, domain_userid)
    return scores


def _score(predict_url: str, domain_userid: str) -> float:
    body = {"domain_userid": domain_userid}
    answer = requests.post(f"{predict_url}/predict", json=body, timeout=10)
    if answer.status_code != 200:
        raise ServiceError(f"{predict_url} answered {answer.status_code}: {answer.text[:300]}")
    return float(answer.json()["score"])


def steps_picture(scores: Mapping[str, float]) -> Picture:
    """How a visit moved the score, step by step, best read from the top."""
    with picture(height=1.0 + 0.27 * len(scores)) as (figure, axes):
        axes.plot(list(scores.values()), range(len(scores)), "o-", color=BLUE, lw=2)
        axes.set_yticks(range(len(scores)), list(scores))
        axes.invert_yaxis()
        axes.set(title="What a visit does to the score", xlabel="score", xlim=(0, None))
    return figure


def path(chapter: int) -> Picture:
    """Where a notebook stands in the series, and what the visitor is there."""
    with picture(height=1.45) as (figure, axes):
        for place, (number, name, what) in enumerate(CHAPTERS):
            here, done = place == chapter, place < chapter
            fill, ink = (BLUE, "white") if here else (PALE if done else PAPER, INK)
            box = {"boxstyle": "round,pad=0.45", "fc": fill, "ec": BLUE if here else GREY}
            axes.text(
                place, 0.72, f"{number} {name}", ha="center", va="center", color=ink, bbox=box,
                fontsize=9, fontweight="bold" if here else "normal",
            )  # fmt: skip
            axes.text(place, 0.12, what, ha="center", va="center", fontsize=8.5)
        axes.set(xlim=(-0.55, len(CHAPTERS) - 0.45), ylim=(-0.2, 1.05))
        axes.axis("off")
    return figure
