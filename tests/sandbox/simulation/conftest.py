"""A simulated world that several tests look at."""

from datetime import UTC, datetime

import pytest

from prospect_lib.sandbox.simulation.visitors import Simulation, simulate


@pytest.fixture(scope="package")
def large_world() -> Simulation:
    return simulate(20_000, 60, end=datetime(2026, 1, 5, tzinfo=UTC), seed=0)
