"""Download and verify Snowplow's published sample of events.

5,398 page views and form submissions of 804 visitors, which its publisher describes as an
artificial subset (repository snowplow-incubator/signals-notebooks, Apache License 2.0).
"""

import hashlib
from pathlib import Path

import requests

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.files import write_whole

URL = (
    "https://github.com/snowplow-incubator/signals-notebooks/raw/refs/heads/main/"
    "web/sample_events.csv.gz"
)
SHA256 = "3ea3f1f0a286d98132198aab86010a2aeecf04b6ccd0b896bf8b9073fdb86773"
NAME = "sample_events.csv.gz"


def sample_events(home: Path) -> Path:
    """Return the sample's file in ``home``; download it if it is missing, and verify it.

    Raises:
        ServiceError: the file is missing and cannot be downloaded.
        DataError: the file is not the published one.
    """
    path = home / NAME
    if not path.is_file():
        write_whole(path, _download())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{path} has SHA-256 {digest[:16]}…, expected {SHA256[:16]}…: it is damaged or another "
            "file. Delete it to download it again."
        )
    return path


def _download() -> bytes:
    try:
        response = requests.get(URL, timeout=60)
        response.raise_for_status()
    except requests.RequestException as error:
        raise ServiceError(
            f"the sample could not be downloaded ({type(error).__name__}) from {URL}. Check the "
            f"connection, or put the file into PROSPECT_HOME as {NAME}."
        ) from error
    return response.content
