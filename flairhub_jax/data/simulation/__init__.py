"""A landscape, and how each sensor sees it."""
