"""Policies that turn a trace into probabilities over candidates."""
