"""The columns of Snowplow's atomic events table, and those that a group's attributes need.

Example: ``missing_columns(group, warehouse.columns())`` -> ``{"first_mkt_medium_l30d":
["mkt_medium"]}``.
"""

import re
from collections.abc import Sequence

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.properties import column_of

#: The scalar columns of the table that the sandbox stores, with DuckDB's types
#: (https://docs.snowplow.io/docs/fundamentals/canonical-event/).
ATOMIC_COLUMNS: dict[str, str] = {
    **dict.fromkeys(["app_id", "platform"], "VARCHAR"),
    **dict.fromkeys(["collector_tstamp", "derived_tstamp", "dvce_created_tstamp"], "TIMESTAMP"),
    **dict.fromkeys(["dvce_sent_tstamp", "true_tstamp"], "TIMESTAMP"),
    **dict.fromkeys(["event", "event_id", "event_vendor", "event_name"], "VARCHAR"),
    **dict.fromkeys(["event_format", "event_version", "name_tracker", "v_tracker"], "VARCHAR"),
    **dict.fromkeys(["user_id", "user_ipaddress", "network_userid", "domain_userid"], "VARCHAR"),
    **dict.fromkeys(["domain_sessionid"], "VARCHAR"),
    "domain_sessionidx": "INTEGER",
    **dict.fromkeys(["page_url", "page_title", "page_referrer", "page_urlscheme"], "VARCHAR"),
    "page_urlhost": "VARCHAR",
    "page_urlport": "INTEGER",
    **dict.fromkeys(["page_urlpath", "page_urlquery", "page_urlfragment"], "VARCHAR"),
    **dict.fromkeys(["refr_urlhost", "refr_urlpath", "refr_medium", "refr_source"], "VARCHAR"),
    **dict.fromkeys(["refr_urlscheme", "refr_urlquery", "refr_urlfragment"], "VARCHAR"),
    "refr_urlport": "INTEGER",
    **dict.fromkeys(["refr_term", "mkt_medium", "mkt_source", "mkt_term"], "VARCHAR"),
    **dict.fromkeys(["mkt_content", "mkt_campaign", "mkt_clickid", "mkt_network"], "VARCHAR"),
    **dict.fromkeys(["se_category", "se_action", "se_label", "se_property"], "VARCHAR"),
    "se_value": "DOUBLE",
    **dict.fromkeys(["pp_xoffset_min", "pp_xoffset_max"], "INTEGER"),
    **dict.fromkeys(["pp_yoffset_min", "pp_yoffset_max"], "INTEGER"),
    **dict.fromkeys(["br_colordepth"], "VARCHAR"),
    "br_cookies": "BOOLEAN",
    **dict.fromkeys(["useragent", "br_lang", "os_timezone", "doc_charset"], "VARCHAR"),
    **dict.fromkeys(["dvce_screenwidth", "dvce_screenheight"], "INTEGER"),
    **dict.fromkeys(["br_viewwidth", "br_viewheight", "doc_width", "doc_height"], "INTEGER"),
}
#: Names of columns that hold self-describing events and entities, as nested values.
NESTED = re.compile(r"(unstruct_event|contexts|derived_contexts)(_|$)")


def columns_of(group: AttributeGroup) -> dict[str, set[str]]:
    """Return the columns that each attribute's property and criteria need, by attribute name."""
    return {attribute.name: _columns_of(attribute) for attribute in group.attributes or []}


def missing_columns(group: AttributeGroup, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns that attributes need and ``columns`` lacks, by attribute name."""
    missing = {name: sorted(needed - set(columns)) for name, needed in columns_of(group).items()}
    return {name: names for name, names in missing.items() if names}


def _columns_of(attribute: Attribute) -> set[str]:
    criteria = attribute.criteria
    criterions = [*(criteria.all or []), *(criteria.any or [])] if criteria else []
    props = [c.property for c in criterions] + [attribute.property] * bool(attribute.property)
    leaves = [leaf for prop in props for leaf in getattr(prop, "properties", [prop])]
    return {column_of(getattr(leaf, "root", leaf)) for leaf in leaves}
