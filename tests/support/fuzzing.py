"""How many examples the random tests draw: few in the suite, as many as asked by hand.

``make fuzz`` draws 10,000 in each of them, in about six minutes.
"""

import os

from hypothesis import HealthCheck, Phase, settings


def drawing(examples: int) -> settings:
    """Settings of a test that draws so many examples in the suite."""
    asked = os.environ.get("PROSPECT_FUZZ")
    return settings(
        max_examples=int(asked) if asked else examples,
        deadline=None,
        suppress_health_check=[*HealthCheck],
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )
