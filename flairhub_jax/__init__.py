"""Land-cover and crop mapping from many sensors on FLAIR-HUB, in pure JAX."""

__version__ = "0.1.0"


def load_model(run, *, normalisation=None):
  """Loads the weights of a run directory: `notebook.load_model`."""
  # Libraries are loaded when they are needed: most commands need no network.
  from flairhub_jax import notebook

  return notebook.load_model(run, normalisation=normalisation)
