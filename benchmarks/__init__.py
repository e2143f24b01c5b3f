"""Measurements behind the figures in docs; each module runs as ``python -m benchmarks.NAME``."""
