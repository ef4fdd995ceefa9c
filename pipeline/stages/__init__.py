"""The use cases, one module per step of the flow; none imports another."""
