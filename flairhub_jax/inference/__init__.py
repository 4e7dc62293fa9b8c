"""Applying a trained network: scores and maps."""
