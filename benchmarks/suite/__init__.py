"""The parts of benchmarks/run.py: how it measures, what it compares, and what it makes of the figures."""
