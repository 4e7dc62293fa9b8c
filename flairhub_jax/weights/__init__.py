"""Weights of other code bases: names, files, configurations."""
