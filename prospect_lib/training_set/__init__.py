"""Training sets: anchors, the statements that compute features there, and their extraction.

An *anchor* is a training row's place: a visitor and an instant. Its values are those that would
have been served at that instant, from all events up to and including it;
``include_anchor=False`` leaves out events exactly at it, as Snowplow's tutorials do.

Example: ``extract(open_warehouse(settings), anchors=SITE_ANCHORS).table`` -> an Arrow table.
"""

from prospect_lib.anchors import SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors
from prospect_lib.sql.compiler import attributes_sql, features_sql
from prospect_lib.training_set.events_part import read_once
from prospect_lib.training_set.extract import TrainingSet, create_table, extract, extract_to

__all__ = [
    "SITE_ANCHORS",
    "TUTORIAL_ANCHORS",
    "Anchors",
    "TrainingSet",
    "attributes_sql",
    "create_table",
    "extract",
    "extract_to",
    "features_sql",
    "read_once",
]
