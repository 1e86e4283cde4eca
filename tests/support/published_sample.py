"""Snowplow's published sample of events, as the fixture ``sample``."""

import os
import shutil
from pathlib import Path

import pytest

from prospect_lib.errors import ServiceError
from prospect_lib.warehouse.sample import sample_events

#: A copy next to the checkout saves the download.
COPY = Path(__file__).parents[3] / "shared" / "data" / "sample_events.csv.gz"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's file, in a folder of its own. Without it the test is skipped; in CI it fails."""
    folder = tmp_path_factory.mktemp("sample")
    if COPY.is_file():
        shutil.copy(COPY, folder)
    try:
        return sample_events(folder)
    except ServiceError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"the published sample is neither on this machine nor downloadable: {error}")
