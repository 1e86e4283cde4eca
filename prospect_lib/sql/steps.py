"""The longer steps of the compiled statement, as templates that an analyst can read.

Placeholders are quoted identifiers, or expressions made by the modules that use them.
"""

VISITORS = """\
-- the visitors who are asked about
visitors AS {materialized}(
  SELECT asked, {code} AS visitor
  FROM (SELECT DISTINCT a.{key} AS asked FROM {anchors} AS a WHERE a.{key} IS NOT NULL) AS d
),
-- the moments that are asked about
moments_asked AS {materialized}(
  SELECT DISTINCT v.visitor, {instant} AS ts
  FROM {anchors} AS a
  JOIN visitors AS v ON v.asked = a.{key}
),
-- what each event of theirs gives each attribute, NULL for nothing
matched AS {materialized}(
  SELECT
    v.visitor,
    {ts} AS ts,
{columns}
  FROM {events} AS e
  JOIN visitors AS v ON v.asked = e.{key}
)"""

SHOWN = """\
-- whether an event counts for each attribute, and the values of which each counts once
shown AS (
  SELECT
    visitor,
    ts{values},
{flags}
  FROM matched
)"""

MARKED = """\
-- for each value that is counted once: when the visitor showed it before, and when next
marked AS (
  SELECT
    *,
{neighbours}
  FROM shown
  WHERE {some}
  UNION ALL
  SELECT *, {nulls}
  FROM shown
  WHERE NOT ({some})
)"""

TOTALS = """\
-- running totals: how often each thing had happened, after each instant of a visitor{sharing}
ones AS (
  SELECT
    visitor,
    ts,
{ones}
  FROM {source}
  UNION ALL
  SELECT visitor, {beginning}, {zeros}
  FROM visitors
),
totals AS {materialized}(
  SELECT visitor, ts{names}
  FROM (
    SELECT
      visitor,
      ts,
{totals},
      LEAD(ts) OVER {following} AS next_ts
    FROM {order}
  ) AS running
  WHERE next_ts IS NULL OR next_ts <> ts
)"""

NUMBERED = """\
-- the number of each event that gives {x}, as its running total counts them
{x}_numbered AS (
  SELECT visitor, ts, {x} AS value, ROW_NUMBER() OVER ({numbering}) AS number
  FROM matched
  WHERE {x} IS NOT NULL
)"""

LOOKED = """\
-- the totals at each moment, less those before each window
looked AS (
  SELECT
    a.visitor,
    a.ts,
{values}
  FROM (SELECT visitor, ts, {instants} FROM moments_asked) AS a
{joins}
)"""

MOMENTS = """\
-- what happened at each instant of a visitor's time line, the moments asked about among them
moments AS {materialized}(
  SELECT
    visitor,
    ts,
    MAX(anchor) AS anchor{columns}
  FROM (
    SELECT visitor, ts, 0 AS anchor{xs} FROM matched
    UNION ALL
    SELECT visitor, ts, 1{nulls} FROM moments_asked
  ) AS instants
  GROUP BY visitor, ts
)"""

KNOWN = """\
-- the value of each of these attributes at each moment asked about
known AS (
  SELECT * FROM (
  SELECT
    visitor,
    ts,
    anchor{columns}
  FROM {source}
  ) AS everywhere
  WHERE anchor = 1
)"""

RESULT = """\
WITH
{steps}
-- each anchor with what was known at its moment
SELECT
  a.*,
{columns}
FROM {anchors} AS a
LEFT JOIN visitors AS w ON w.asked = a.{key}
LEFT JOIN moments_asked AS m ON m.visitor = w.visitor AND m.ts = {instant}
{joins}
ORDER BY a.{key}, a.{anchor_ts}"""

LIVES = """\
-- when each lifetime attribute was last updated before an instant
updates AS (
  SELECT *,
{previous}
  FROM moments
),
-- a pause longer than its ttl begins a new life, in which counting starts afresh
births AS (
  SELECT *,
{births}
  FROM updates
),
lives AS (
  SELECT *,
{lives}
  FROM births
)"""

PREVIOUS = """\
    MAX(CASE WHEN {x}_n > 0 THEN ts END) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS {before}"""

BIRTH = """\
    CASE WHEN {x}_n > 0 AND ({before} IS NULL OR ts > {before} + {ttl}) THEN 1 ELSE 0 END
      AS {birth}"""

LIFE = """\
    SUM({birth}) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS {life}"""

LIST = """\
-- {title}: where another value is seen, or one after too long a pause
{seen} AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN {pause} THEN 1 ELSE 0 END AS paused
  FROM (SELECT DISTINCT visitor, ts, {x} AS value FROM matched WHERE {x} IS NOT NULL) AS d
),
{numbered} AS (
  SELECT
    visitor,
    ts,
    value,
    SUM(paused) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS life,
    SUM(CASE WHEN changed + paused > 0 THEN 1 ELSE 0 END) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS run
  FROM {seen}
),
-- {title}: a run of one value stands until the value's next run, or until it is too old
{runs} AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS since,
    {until} AS until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS again
  FROM {numbered}
  GROUP BY visitor, value, run, life
),
{result} AS (
  SELECT m.visitor, m.ts, {collected} AS {result}
  FROM moments_asked AS m
  JOIN {runs} AS r
    ON r.visitor = m.visitor
    AND r.since <= m.ts
    AND (r.again IS NULL OR r.again > m.ts)
    AND (r.until IS NULL OR r.until >= m.ts)
  GROUP BY m.visitor, m.ts
)"""

TALLY = """\
-- {title}: a time line of its own for each value of a visitor
{line} AS (
  SELECT d.visitor, d.value, m.ts, m.anchor{life}, COALESCE(c.n, 0) AS n
  FROM (SELECT DISTINCT visitor, {x} AS value FROM matched WHERE {x} IS NOT NULL) AS d
  JOIN {source} AS m
    ON m.visitor = d.visitor AND (m.anchor = 1 OR m.{x}_n > 0)
  LEFT JOIN (
    SELECT visitor, ts, {x} AS value, COUNT(*) AS n
    FROM matched
    WHERE {x} IS NOT NULL
    GROUP BY visitor, ts, {x}
  ) AS c
    ON c.visitor = d.visitor AND c.ts = m.ts AND c.value = d.value
),
{counted} AS (
  SELECT
    visitor,
    value,
    ts,
    anchor,
    CAST(SUM(n) OVER {frame} AS BIGINT) AS n,
    MIN(CASE WHEN n > 0 THEN ts END) OVER {frame} AS first_seen,
    MAX(CASE WHEN n > 0 THEN ts END) OVER {frame} AS last_seen
  FROM {line}
),
-- {title}: the values by how often they occurred; of equals the earliest seen first
{ranked} AS (
  SELECT
    visitor,
    ts,
    value,
    n,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY {order}, first_seen, value) AS place
  FROM {counted}
  WHERE anchor = 1 AND n > 0
),
{result} AS (
  SELECT visitor, ts, {collected} AS {result}
  FROM {ranked}
  WHERE place <= {keep}{alive}
  GROUP BY visitor, ts
)"""
