"""The columns of Snowplow's atomic events table, and those that a group's attributes need.

Example: ``missing_columns(group, warehouse.columns())`` -> ``{"first_mkt_medium_l30d":
["mkt_medium"]}``.
"""

import re
from collections.abc import Iterable, Sequence

from snowplow_signals import AttributeGroup, Event
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
#: The other standard columns of Snowplow's events table, with the same rules for types:
#: identifiers, names, URLs and versions are text, times are UTC.
_NOT_IN_SANDBOX: dict[str, Sequence[str]] = {
    "VARCHAR": [
        *["v_collector", "v_etl", "etl_tags", "user_fingerprint", "event_fingerprint"],
        *["refr_domain_userid", "geo_country", "geo_region", "geo_city", "geo_zipcode"],
        *["geo_region_name", "geo_timezone", "ip_isp", "ip_organization", "ip_domain"],
        *["ip_netspeed", "tr_orderid", "tr_affiliation", "tr_city", "tr_state", "tr_country"],
        *["tr_currency", "ti_orderid", "ti_sku", "ti_name", "ti_category", "ti_currency"],
        *["base_currency", "br_name", "br_family", "br_version", "br_type", "br_renderengine"],
        *["os_name", "os_family", "os_manufacturer", "dvce_type"],
    ],
    "TIMESTAMP": ["etl_tstamp", "refr_dvce_tstamp", "load_tstamp"],
    "INTEGER": ["txn_id", "ti_quantity"],
    "DOUBLE": [
        *["geo_latitude", "geo_longitude", "tr_total", "tr_tax", "tr_shipping", "ti_price"],
        *["tr_total_base", "tr_tax_base", "tr_shipping_base", "ti_price_base"],
    ],
    "BOOLEAN": [
        *["br_features_pdf", "br_features_flash", "br_features_java", "br_features_director"],
        *["br_features_quicktime", "br_features_realplayer", "br_features_windowsmedia"],
        *["br_features_gears", "br_features_silverlight", "dvce_ismobile"],
    ],
}
#: All standard columns of the events table, with DuckDB's types.
CANONICAL_COLUMNS: dict[str, str] = ATOMIC_COLUMNS | {
    name: kind for kind, names in _NOT_IN_SANDBOX.items() for name in names
}
#: Names of columns that hold self-describing events and entities, as nested values.
NESTED = re.compile(r"(unstruct_event|contexts|derived_contexts)(_|$)")


def columns_of(group: AttributeGroup) -> dict[str, set[str]]:
    """Return the columns that each attribute needs, by attribute name."""
    return {attribute.name: _columns_of(attribute) for attribute in group.attributes or []}


def missing_columns(group: AttributeGroup, columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns that attributes need and ``columns`` lacks, by attribute name."""
    missing = {name: sorted(needed - set(columns)) for name, needed in columns_of(group).items()}
    return {name: names for name, names in missing.items() if names}


def columns_of_events(patterns: Iterable[Event]) -> set[str]:
    """Return the columns that event patterns need: those of the parts that they name.

    >>> sorted(columns_of_events([Event(name="sign_up", version="1-0-0")]))
    ['event_name', 'event_version']
    """
    parts = ("vendor", "name", "version")
    return {f"event_{part}" for event in patterns for part in parts if getattr(event, part)}


def _columns_of(attribute: Attribute) -> set[str]:
    criteria = attribute.criteria
    criterions = [*(criteria.all or []), *(criteria.any or [])] if criteria else []
    props = [c.property for c in criterions] + [attribute.property] * bool(attribute.property)
    leaves = [leaf for prop in props for leaf in getattr(prop, "properties", [prop])]
    columns = {column_of(getattr(leaf, "root", leaf)) for leaf in leaves}
    return columns | columns_of_events(attribute.events)
