"""The processes, one module per worker; each says which stages it runs."""
