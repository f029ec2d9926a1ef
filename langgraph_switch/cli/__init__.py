"""The `langgraph-switch` command."""

from langgraph_switch.cli.app import app, main

__all__ = ["app", "main"]
