"""Attributes whose columns the events lack are left out; the key's and the goal's are required."""

from collections.abc import Iterator

import pytest
from snowplow_signals import AtomicProperty, Criteria, Criterion, EventProperty, Service, user_id

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import SUBMIT_FORM, prospect_group
from prospect_lib.errors import DataError
from prospect_lib.problem import ScoringProblem, prospect_problem
from prospect_lib.training_set import create_table, extract, extract_to
from prospect_lib.warehouse import DuckDBWarehouse

DEVICE = "contexts_nl_basjes_yauaa_context_1"
#: An export without the entity of the device, and without campaigns: two visitors, a day.
EVENTS = """
SELECT 'v' || (range % 2) AS domain_userid, 's' AS domain_sessionid, 'website' AS app_id,
  1 AS domain_sessionidx, 'https://x.io/' AS page_url, 'search' AS refr_medium,
  CAST(NULL AS VARCHAR) AS mkt_medium, 'page_view' AS event_name, '1-0-0' AS event_version,
  'com.snowplowanalytics.snowplow' AS event_vendor, 'e' || range AS event_id,
  TIMESTAMP '2026-01-05' + INTERVAL (range) MINUTE AS derived_tstamp,
FROM range(1440)
"""


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse.over(EVENTS)
    yield opened
    opened.close()


def test_attributes_without_columns_are_left_out_with_a_sentence(
    warehouse: DuckDBWarehouse,
) -> None:
    rows = extract(warehouse)
    left_out = rows.manifest["left_out"]
    assert left_out["latest_device_class"] == [DEVICE]
    assert (
        f"latest_device_class is left out: the events have no column {DEVICE}."
        in (rows.manifest["notes"])
    )
    features = [f.name for f in prospect_problem.features if f.attribute not in left_out]
    assert rows.table.column_names == ["domain_userid", "anchor_ts", "label", *features]
    assert "num_page_views_l7d" in features and "latest_device_class" not in features


def test_the_table_itself_knows_what_is_left_out(warehouse: DuckDBWarehouse) -> None:
    assert DEVICE.encode() in extract(warehouse).table.schema.metadata[b"left_out"]


def test_files_and_tables_have_the_same_columns(
    warehouse: DuckDBWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = extract_to(tmp_path_factory.mktemp("rows"), warehouse)
    rows = extract(warehouse)
    assert sum(manifest.pop("parts").values()) == rows.table.num_rows
    assert manifest == rows.manifest
    create_table(warehouse, "written")
    assert warehouse.query("SELECT * FROM written LIMIT 0").column_names == rows.table.column_names


def test_a_group_without_any_computable_attribute_is_refused(warehouse: DuckDBWarehouse) -> None:
    device = [a for a in prospect_group.attributes if a.name == "latest_device_class"]
    group = prospect_group.model_copy(update={"attributes": device})
    with pytest.raises(DataError, match=f"no attribute of .* can be computed: .* {DEVICE}"):
        extract(warehouse, group)


PLAN = EventProperty(vendor="com.acme", name="sign_up", major_version=1, path="plan")


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (
            Anchors(goal_criteria=Criteria(all=[Criterion.eq(PLAN, "pro")])),
            "goal of the anchors needs unstruct_event_com_acme_sign_up_1",
        ),
        (
            Anchors(goal_criteria=Criteria(any=[Criterion.eq(AtomicProperty(name="tr_total"), 1)])),
            "goal of the anchors needs tr_total",
        ),
    ],
)
def test_columns_of_goal_and_anchors_are_required(
    warehouse: DuckDBWarehouse, anchors: Anchors, message: str
) -> None:
    with pytest.raises(DataError, match=f"the events lack columns: {message}"):
        extract(warehouse, anchors=anchors)


def test_columns_of_key_and_arguments_are_required(warehouse: DuckDBWarehouse) -> None:
    warehouse.run("ALTER TABLE events DROP COLUMN app_id")
    warehouse.run("ALTER TABLE events DROP COLUMN domain_sessionid")
    warehouse.run("ALTER TABLE events DROP COLUMN event_vendor")
    with pytest.raises(DataError) as refused:
        extract(warehouse, anchors=Anchors(app_ids="website", per_session=1))
    assert str(refused.value) == (
        "the events lack columns: goal of the anchors needs event_vendor; at of the anchors needs "
        "event_vendor; app_ids of the anchors needs app_id; per_session of the anchors needs "
        "domain_sessionid. Add the columns, or change the problem's anchors."
    )
    members = prospect_group.model_copy(update={"attribute_key": user_id})
    with pytest.raises(DataError, match="the events lack columns: the key user_id needs user_id"):
        service = Service(name="s", owner="a@example.com", attribute_groups=[members])
        extract(warehouse, ScoringProblem("m", members, service), Anchors(goal=SUBMIT_FORM))
