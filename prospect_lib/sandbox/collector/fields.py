"""The fields that trackers send, and the columns of atomic events that they fill.

Source: https://docs.snowplow.io/docs/events/going-deeper/http-protocol/
"""

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
