"""Real accounts without an account: doubles of Signals and of Snowflake in this process.

A sandbox stands in for Signals elsewhere: for a hosted Signals sandbox and, with Snowplow's
console, for an account. fakesnow stands in for Snowflake. Both record what they get.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    Event,
    Service,
    StreamAttributeGroup,
    domain_userid,
)

from prospect_lib import signals
from prospect_lib.jobs import demo, retrain
from prospect_lib.model.training import Recipe
from prospect_lib.problem import ScoringProblem
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.home import token
from prospect_lib.server.runner import Server
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow
from tests.support.synthetic import FAST

CONSOLE_PATH = "/api/msc/v1/organizations"
ORGANISATION = "0d7f2b52-4d0e-4f53-9d3b-2a9f1c7e6a10"
KEY_ID = "5f0c8d7e-9a51-4b0e-8f6d-1c2b3a495867"


@dataclass
class Elsewhere:
    """Signals at an address of its own.

    Attributes:
        url: its address.
        token: of the sandbox; the API key of the account.
        calls: ``"<method> <path> <status>"`` of each call, in order.
    """

    url: str
    token: str
    calls: list[str] = field(default_factory=list)

    def secrets(self, backend: str) -> dict[str, str]:
        """Return the secrets that choose it as a hosted sandbox or as an account."""
        if backend == "signals-sandbox":
            return {"SP_SANDBOX_URL": self.url, "SP_SANDBOX_TOKEN": self.token}
        names = {"SP_API_KEY": self.token, "SP_API_KEY_ID": KEY_ID, "SP_ORG_ID": ORGANISATION}
        return {"SP_API_URL": self.url, "SP_OWNER": "ada@lovelace.org", **names}


@contextmanager
def signals_elsewhere(home: Path, *, warehouse: bool = True) -> Iterator[Elsewhere]:
    """Run an empty sandbox on a port of its own; hosted ones have no warehouse connection."""
    app = create_sandbox(Settings(home=home), warehouse=warehouse)
    server = Server(app, port=0)
    elsewhere = Elsewhere("", token(home))
    answer = app.wsgi_app

    def recorded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        def started(status: str, *rest: Any) -> Any:
            call = (environ["REQUEST_METHOD"], environ["PATH_INFO"], status.split()[0])
            elsewhere.calls.append(" ".join(call))
            return start(status, *rest)

        return answer(environ, started)

    app.wsgi_app = recorded  # type: ignore[method-assign]
    with server, pytest.MonkeyPatch.context() as patch:
        # on a busy machine, an answer may take longer than production waits for it
        patch.setitem(signals.reader.__kwdefaults__, "timeout", 30.0)
        elsewhere.url = server.url
        try:
            yield elsewhere
        finally:
            app.extensions["sandbox"].subscribers.close()  # the SDK's threads read to the end
    app.extensions["sandbox"].events.close()


#: Secrets of the stand-in for Snowflake.
SNOWFLAKE = {
    "SF_ACNT": "ORG-ACCT",
    "SF_USR": "prospect_user",
    "SF_WH": "wh",
    "SF_PWD": "snowflake-secret",
    "ATOMIC_TABLE": "DB.PUBLIC.EVENTS",
}


@contextmanager
def events_in_snowflake(events: pa.Table) -> Iterator[None]:
    """Run a stand-in for Snowflake whose table of events has these rows."""
    nested = tuple(name for name in events.column_names if name.startswith(("contexts_", "unstr")))
    with snow.server():
        SnowflakeWarehouse.connect(Settings(Path(), values=SNOWFLAKE)).close()
        snow.load_into_server("EVENTS", events, nested)
        snow.statements().clear()
        yield


_VIEW = Event(vendor="com.snowplowanalytics.snowplow", name="page_view", version="1-0-0")
_PRICING = Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%pricing%")])
_GROUP = StreamAttributeGroup(
    name="my_site",
    version=1,
    attribute_key=domain_userid,
    owner="ada@lovelace.org",
    ttl=timedelta(days=7),
    attributes=[
        Attribute(
            name=name,
            type="int64",
            aggregation="counter",
            events=[_VIEW],
            criteria=criteria,
            period=timedelta(days=7),
        )
        for name, criteria in (("num_views_l7d", None), ("num_pricing_views_l7d", _PRICING))
    ],
)
#: A small problem of a website's owner; as an option, ``tests.support.accounts:MY_SITE``.
MY_SITE = ScoringProblem(
    "my_site",
    _GROUP,
    Service(name="my_site_service", owner="ada@lovelace.org", attribute_groups=[_GROUP]),
)


def train_cheaply(patch: pytest.MonkeyPatch) -> None:
    """Let jobs train small models, without pictures: the way is tested, not the model."""
    cheap = {"recipe": Recipe(rounds=5, params=FAST), "calibrate": False}
    patch.setattr(demo, "RESAMPLES", 20)
    patch.setattr(retrain, "train", partial(retrain.train, **cheap, resamples=20))
    patch.setattr(retrain, "report_html", lambda *_: "")


def run_notebook(path: Path, until: str | None = None, **parameters: object) -> None:
    """Run the cells of a notebook in this process; print the value of a cell's last line.

    Args:
        until: text of the last cell to run.
        parameters: papermill injects them, below the cell that is tagged for it.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    matplotlib.use("agg")
    notebook = load_notebook_node(str(path))
    if parameters:
        notebook = parameterize_notebook(notebook, parameters)
    for cell in notebook.cells:
        if cell.cell_type != "code" or '"google.colab" in sys.modules' in cell.source:
            continue
        tree = ast.parse(cell.source, str(path))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(path), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
            print("" if value is None else value)
        if until is not None and until in cell.source:
            break
    if "server" in names:
        names["server"].stop()
