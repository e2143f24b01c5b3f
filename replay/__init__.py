"""Offline tools on the same engine: replay, simulate, evaluate, report."""
