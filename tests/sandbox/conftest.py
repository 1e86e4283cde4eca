"""A sandbox in the process of the tests."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.settings import Settings


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of an empty sandbox, one per module."""
    app = create_sandbox(Settings(home=tmp_path_factory.mktemp("home")))
    yield app.test_client()
    app.extensions["sandbox"].events.close()
