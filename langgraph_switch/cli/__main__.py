"""`python -m langgraph_switch.cli`."""

from langgraph_switch.cli.app import main

main()
