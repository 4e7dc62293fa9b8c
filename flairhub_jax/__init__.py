"""Land-cover and crop mapping from many sensors on FLAIR-HUB, in pure JAX."""

__version__ = "0.1.0"
