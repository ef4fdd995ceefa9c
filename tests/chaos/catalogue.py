"""Every scenario of the battery."""

from tests.chaos import (
    agency,
    broker,
    clocks,
    cluster,
    company,
    crashes,
    database,
    deliveries,
    disks,
    keys,
    schema,
    wire,
)

SCENARIOS = (
    *crashes.SCENARIOS,
    *deliveries.SCENARIOS,
    *company.SCENARIOS,
    *wire.SCENARIOS,
    *agency.SCENARIOS,
    *database.SCENARIOS,
    *broker.SCENARIOS,
    *clocks.SCENARIOS,
    *keys.SCENARIOS,
    *disks.SCENARIOS,
    *schema.SCENARIOS,
    *cluster.SCENARIOS,
)
