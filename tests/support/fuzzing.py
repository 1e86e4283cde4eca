"""The number of examples that random tests draw: few in the suite, more on request.

``make fuzz`` draws 10,000 in each of them.
"""

import os

from hypothesis import HealthCheck, Phase, settings


def drawing(examples: int) -> settings:
    """Return the settings of a test that draws this number of examples in the suite."""
    requested = os.environ.get("PROSPECT_FUZZ")
    return settings(
        max_examples=int(requested) if requested else examples,
        suppress_health_check=[*HealthCheck],
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )
