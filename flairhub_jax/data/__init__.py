"""Data pipeline from GeoTIFF trees to batches, in NumPy only."""
