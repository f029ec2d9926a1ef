"""Checkpoints as one base and low-rank adapters: what they cost in score, and save in memory."""
