"""The fields that trackers send, the columns that they fill, and how long a stored event may be.

A longer one is rejected, so that every reader can read the rest. The lengths of columns are those
of Snowplow's events table, as Enrich enforces them. Sources:
https://docs.snowplow.io/docs/events/going-deeper/http-protocol/
https://docs.snowplow.io/docs/pipeline-components-and-applications/enrichment-components/4-0-x-upgrade-guide
"""

from prospect_lib.sandbox.collector.payloads import BadPayloadError
from prospect_lib.sandbox.events import Row

TEXTS = {
    "p": "platform", "aid": "app_id", "tna": "name_tracker", "tv": "v_tracker", "uid": "user_id",
    "duid": "domain_userid", "sid": "domain_sessionid", "page": "page_title", "url": "page_url",
    "refr": "page_referrer", "se_ca": "se_category", "se_ac": "se_action", "se_la": "se_label",
    "se_pr": "se_property", "cd": "br_colordepth",
    "nuid": "network_userid", "tnuid": "network_userid", "lang": "br_lang", "tz": "os_timezone",
    "cs": "doc_charset",
}  # fmt: skip
NUMBERS = {
    "vid": "domain_sessionidx", "pp_mix": "pp_xoffset_min", "pp_max": "pp_xoffset_max",
    "pp_miy": "pp_yoffset_min", "pp_may": "pp_yoffset_max",
}  # fmt: skip
SIZES = {
    "res": ("dvce_screenwidth", "dvce_screenheight"),
    "vp": ("br_viewwidth", "br_viewheight"),
    "ds": ("doc_width", "doc_height"),
}
#: Fields with JSON, and those of them in base64.
ENCODED = ("ue_px", "cx")
JSON_FIELDS = ("ue_pr", "co", *ENCODED)
#: Fields whose text is stored as it was sent, also of a rejected payload.
PLAIN = {*TEXTS, *NUMBERS, *SIZES, "e", "eid", "dtm", "stm", "ttm", "cookie", "se_va", "ua"}
MAX_BATCH = 10_000  # events in one request; trackers send tens
MAX_NESTED = 100_000  # characters of an event's JSON, and of its entities'
USUAL = 255
#: Columns whose text may have another length than ``USUAL``.
LONGEST = {
    "page_url": 10_000, "page_referrer": 10_000, "page_title": 2000, "useragent": 1000,
    "page_urlpath": 3000, "page_urlquery": 6000, "page_urlfragment": 3000,
    "refr_urlpath": 6000, "refr_urlquery": 6000, "refr_urlfragment": 3000,
    "mkt_content": 500, "se_category": 1000, "se_action": 1000, "se_label": 4096,
    "se_property": 1000, "domain_userid": 128, "domain_sessionid": 128, "network_userid": 128,
}  # fmt: skip


def check_lengths(row: Row) -> None:
    """Refuse a row with a text that is longer than its column.

    Raises:
        BadPayloadError: the message names the column and both lengths.
    """
    for column, value in row.items():
        if isinstance(value, str) and len(value) > (longest := LONGEST.get(column, USUAL)):
            raise BadPayloadError(
                f"{column} has {len(value):,} characters, expected at most {longest:,}"
            )
