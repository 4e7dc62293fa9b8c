"""A trained network over the rasters of a region: georeferenced maps."""
