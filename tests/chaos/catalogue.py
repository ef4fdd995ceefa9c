"""Every scenario of the battery."""

from tests.chaos import crashes

SCENARIOS = (*crashes.SCENARIOS,)
