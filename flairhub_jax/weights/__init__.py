"""Weights of other code bases: names, file formats, configurations."""
