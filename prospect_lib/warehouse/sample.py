"""Snowplow's published sample of real-looking events: found, verified, described.

5,398 page views and form submissions of 804 visitors, described by its publisher as an
artificial subset (repository snowplow-incubator/signals-notebooks, Apache License 2.0).
"""

import hashlib
from pathlib import Path

import requests

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.events import missing_columns

URL = (
    "https://github.com/snowplow-incubator/signals-notebooks/raw/refs/heads/main/"
    "web/sample_events.csv.gz"
)
SHA256 = "3ea3f1f0a286d98132198aab86010a2aeecf04b6ccd0b896bf8b9073fdb86773"
NAME = "sample_events.csv.gz"


def sample_events(home: Path) -> Path:
    """The sample's file, downloaded once into ``home`` and verified each time.

    Raises:
        ServiceError: it is not there and cannot be downloaded.
        DataError: what is there, or arrived, is not the published file.
    """
    path = home / NAME
    if not path.is_file():
        home.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_bytes(_download())
        draft.replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{path} has SHA-256 {found[:16]}…, expected {SHA256[:16]}…: it is damaged or another "
            "file. Delete it to have it downloaded again."
        )
    return path


def _download() -> bytes:
    try:
        answer = requests.get(URL, timeout=60)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise ServiceError(
            f"the sample could not be downloaded ({type(error).__name__}) from {URL}. Check the "
            f"connection, or put the file into PROSPECT_HOME as {NAME}."
        ) from error
    return answer.content


def what_it_lacks(warehouse: Warehouse) -> str:
    """One sentence a kind of attribute of the catalogue that the events cannot support."""
    lacking = missing_columns(prospect_group, warehouse.columns())
    columns = sorted({column for names in lacking.values() for column in names})
    events = warehouse.query(
        f"SELECT event_name, COUNT(*) AS n FROM {warehouse.events} GROUP BY ALL ORDER BY n DESC"
    ).to_pylist()
    kinds = ", ".join(f"{row['event_name']} ({row['n']:,})" for row in events)
    return (
        f"Events: {kinds}; no others. Columns that the catalogue needs and the events lack: "
        f"{', '.join(columns) or 'none'} (for {', '.join(lacking) or 'nothing'})."
    )
