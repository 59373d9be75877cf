"""The parts of benchmarks/edges.py: its data, its rows, its training, and what is made of its figures."""
