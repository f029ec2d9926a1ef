"""Trains, measures and packs the embedded family; `python -m recipes.tiny_family`."""
