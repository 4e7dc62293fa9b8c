import re

import numpy as np

from flairhub_jax.data import transforms


def test_turns_equal_the_references(origin):
  fixture = origin.arrays("units/augmentations")
  compared = 0
  for key in fixture:
    motion, name = key.split("/")
    flip_h, flip_v, quarters = map(
      int, re.fullmatch(r"h(\d)v(\d)k(\d)", motion).groups()
    )
    start = np.moveaxis(fixture[f"h0v0k0/{name}"], -3, -1)
    turned = transforms.turn(
      start,
      flip_horizontal=bool(flip_h),
      flip_vertical=bool(flip_v),
      quarter_turns=quarters,
    )
    np.testing.assert_array_equal(
      np.moveaxis(turned, -1, -3), fixture[key], err_msg=key
    )
    compared += 1
  assert compared == 48


def test_image_series_and_labels_move_together():
  label = np.arange(16, dtype=np.uint8).reshape(4, 4)
  image = np.stack([label, label + 100], -1)
  example = {
    "inputs": {"image": image, "series": np.stack([image, image])},
    "labels": {"task": label},
    "patch": np.int32(3),
  }
  seen = set()
  rng = np.random.default_rng(0)
  for _ in range(100):
    moved = transforms.symmetry(example, rng, {})
    turned = moved["labels"]["task"]
    np.testing.assert_array_equal(moved["inputs"]["image"][..., 0], turned)
    np.testing.assert_array_equal(
      moved["inputs"]["series"][1, ..., 1], turned + 100
    )
    seen.add(turned.tobytes())
  assert len(seen) == 8


def test_patches_that_are_not_square_keep_their_shape():
  """A quarter turn would give one patch another shape than its batch."""
  image = np.arange(6 * 4).reshape(6, 4, 1)
  square = np.arange(16).reshape(4, 4, 1)
  example = {
    "inputs": {"a": image, "b": square},
    "labels": {"t": image[..., 0]},
  }
  seen = set()
  for seed in range(40):
    moved = transforms.symmetry(example, np.random.default_rng(seed), {})
    a, b = moved["inputs"]["a"], moved["inputs"]["b"]
    np.testing.assert_array_equal(a[..., 0], moved["labels"]["t"])
    assert a.shape == image.shape
    # The same motion moves both: their corners say which it was.
    corner = (int(a[0, 0, 0]), int(b[0, 0, 0]))
    assert corner in {(0, 0), (3, 3), (20, 12), (23, 15)}
    seen.add(corner)
  assert len(seen) == 4
