"""The command `lodge`: one module per theme. Commands import what they need when they run, so that help is quick."""

from pipeline.interfaces.cli.app import main

__all__ = ["main"]
