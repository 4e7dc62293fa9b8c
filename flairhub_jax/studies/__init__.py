"""Sweeps of runs, and their comparison."""
