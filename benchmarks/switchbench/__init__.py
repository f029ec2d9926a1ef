"""The parts of `benchmarks/switching.py`: models, contestants, measuring, tables."""
