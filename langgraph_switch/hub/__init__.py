"""Switches, rollouts and distilled models on the Hugging Face Hub.

`pull.pull`, `pull.pull_switch`, `push.push`, `plan.plan_memory`.
"""
