"""Every scenario of the battery."""

from tests.chaos import agency, broker, clocks, company, crashes, database, deliveries, wire

SCENARIOS = (
    *crashes.SCENARIOS,
    *deliveries.SCENARIOS,
    *company.SCENARIOS,
    *wire.SCENARIOS,
    *agency.SCENARIOS,
    *database.SCENARIOS,
    *broker.SCENARIOS,
    *clocks.SCENARIOS,
)
