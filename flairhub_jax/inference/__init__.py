"""Inference with a trained network: scores and maps of patches."""
