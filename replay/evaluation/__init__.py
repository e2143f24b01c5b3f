"""Evaluation: what detection costs and finds at a stated budget of false alerts."""
