"""From GeoTIFF trees to batches, in numpy alone."""
