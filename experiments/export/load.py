"""Runs an exported network; needs `pip install jax flatbuffers` only.

    python load.py NETWORK.zip BATCH.npz PROBABILITIES.npz

BATCH.npz has the arrays that contract.json of the archive names.
"""

import json
import sys
import zipfile

import jax.export
import numpy as np

path, source, target = sys.argv[1:]
with zipfile.ZipFile(path) as archive:
  contract = json.loads(archive.read("contract.json"))
  network = jax.export.deserialize(bytearray(archive.read("network.jax")))
batch = {}
with np.load(source, allow_pickle=False) as arrays:
  for name, expected in contract["arrays"].items():
    part, sensor = name.split("/")
    batch.setdefault(part, {})[sensor] = arrays[name]
    if arrays[name].dtype != expected["dtype"]:
      sys.exit(f"{name}: expected {expected}, found {arrays[name].dtype}")
np.savez(target, **jax.jit(network.call)(batch))
