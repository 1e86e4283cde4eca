"""Visitors who react to invitations: so many as was said, and nobody else."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prospect_lib.errors import DataError
from prospect_lib.sandbox.simulation.reactions import with_reactions
from tests.support.served_world import simulated


@pytest.fixture(scope="module")
def invited() -> pa.Table:
    """An invitation at the first page of each visitor."""
    events = simulated(400)
    first = events.group_by("domain_userid", use_threads=False).aggregate(
        [("derived_tstamp", "min")]
    )
    return first.rename_columns(["domain_userid", "anchor_ts"])


def test_by_default_nobody_reacts(invited: pa.Table) -> None:
    assert with_reactions(simulated(400), invited).equals(simulated(400))


def test_those_who_send_no_form_react_with_the_known_probability(invited: pa.Table) -> None:
    events = simulated(400)
    happened = with_reactions(events, invited, effect=0.3, seed=1)
    forms = happened.slice(events.num_rows)
    assert happened.slice(0, events.num_rows).equals(events)
    assert forms.num_rows / invited.num_rows == pytest.approx(0.3, abs=0.07)
    assert set(forms["event_name"].to_pylist()) == {"submit_form"}
    assert forms["unstruct_event_com_snowplowanalytics_snowplow_submit_form_1"].null_count == 0
    assert len(pc.unique(happened["event_id"])) == happened.num_rows
    invitations = dict(zip(*(column.to_pylist() for column in invited.columns), strict=True))
    senders = forms["domain_userid"].to_pylist()
    assert len(set(senders)) == len(senders)
    for sender, at in zip(senders, forms["derived_tstamp"].to_pylist(), strict=True):
        assert timedelta(0) < at - invitations[sender] < timedelta(hours=1)
    sessions = set(
        zip(*(events[name].to_pylist() for name in ("domain_userid", "domain_sessionid")),
            strict=True)
    )  # fmt: skip
    assert set(zip(senders, forms["domain_sessionid"].to_pylist(), strict=True)) <= sessions
    again = with_reactions(events, invited, effect=0.3, seed=1)
    assert again.equals(happened)


@pytest.mark.parametrize("effect", [-0.1, 1.01])
def test_an_effect_that_cannot_be_is_refused(invited: pa.Table, effect: float) -> None:
    with pytest.raises(DataError, match=r"expected 0 to 0\.\d\d, the share without a form"):
        with_reactions(simulated(400), invited, effect=effect)
