"""Alembic's scripts for the ledger; run by `lodge migrate` through `pipeline.ledger.migrate`."""
