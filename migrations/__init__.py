"""Alembic's scripts for the ledger; run by `lodge db` through `pipeline.ledger.migrate`."""
