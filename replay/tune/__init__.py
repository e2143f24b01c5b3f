"""Fusion weights learned from a log of one's own, without labels."""
