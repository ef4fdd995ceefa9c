"""The record of everything: SQLAlchemy Core on PostgreSQL, or SQLite embedded; one statement per batch."""
