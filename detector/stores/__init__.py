"""Durable key-value stores behind the CheckpointStore port."""
