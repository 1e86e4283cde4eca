"""The statement that places anchors, as templates that an analyst can read.

Placeholders are filled in by :mod:`prospect_lib.training_set.anchors`.
"""

EVENT_PLACES = "    SELECT visitor, ts, session FROM seen WHERE anchor = 1"

TICK_PLACES = """\
    SELECT visitor, {tick} AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS started,
        {passed} AS passed
      FROM seen
    ) AS present"""

ANCHORS = """\
WITH
-- the events that count
seen AS (
  SELECT
    {key} AS visitor,
    {ts} AS ts,
    {session} AS session,
    {app} AS app,
    CASE WHEN {is_anchor} THEN 1 ELSE 0 END AS anchor,
    CASE WHEN {is_goal} THEN 1 ELSE 0 END AS goal
  FROM {events}
  WHERE {key} IS NOT NULL{left_out}
),
ending AS (
  SELECT MAX(ts) AS data_end FROM seen
),
goals AS (
  SELECT visitor, ts FROM seen WHERE goal = 1 GROUP BY visitor, ts
),
{known}-- the moments at which a visitor is scored
places AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
{places}
  ) AS everywhere
  GROUP BY visitor, ts
),
-- those whose horizon the data covers: of the others the label is not known
eligible AS (
  SELECT
    p.visitor,
    p.ts,
    COALESCE(goal.ts <= p.ts + {horizon}, FALSE) AS positive{columns}
  FROM places AS p
  {next_goal}{joins}
  CROSS JOIN ending
  WHERE p.ts <= ending.data_end - {horizon}{conditions}
)
SELECT
  visitor AS {key},
  ts AS {anchor_ts},
  positive AS {label}{weight}
FROM eligible{drawn}
ORDER BY 1, 2"""

VISITOR_FIRSTS = """\
-- when each visitor was first seen, when the goal was first met, and the first app
firsts AS (
  SELECT visitor, MIN(ts) AS first_ts, MIN(CASE WHEN goal = 1 THEN ts END) AS goal_ts
  FROM seen
  GROUP BY visitor
),
first_apps AS (
  SELECT s.visitor, MIN(s.app) AS first_app
  FROM seen AS s
  JOIN firsts AS f ON f.visitor = s.visitor AND f.first_ts = s.ts
  GROUP BY s.visitor
),
"""

EVENTS_SO_FAR = """\
-- how many events each visitor had had, after each instant
so_far AS (
  SELECT
    visitor,
    ts,
    SUM(COUNT(*)) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS events
  FROM seen
  GROUP BY visitor, ts
),
"""
