"""Revocation requests as signed webhooks (Standard Webhooks 1.0), simulated by default."""
