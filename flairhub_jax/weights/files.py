"""Files of tensors: safetensors, and never a pickle.

A pickle runs code when it is read; the error has the command that converts it
to safetensors on a machine with PyTorch.
"""

import os
import pathlib
import shlex
from collections.abc import Mapping

import ml_dtypes  # noqa: F401  registers bfloat16 with numpy
import numpy as np
import safetensors
import safetensors.numpy

from flairhub_jax import atomic
from flairhub_jax.errors import InputError, listed

_PICKLE_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")
_FLOATS = ("F16", "BF16", "F32", "F64")
_WHOLE = ("BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
# After the header's length, eight bytes, JSON begins.
_JSON_AT = 8

_CONVERT = (
  "import sys, torch; from safetensors.torch import save_file; "
  "s = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
  "s = s.get('state_dict', s.get('model', s)); "
  "save_file({k: v.contiguous().clone() for k, v in s.items() "
  "if isinstance(v, torch.Tensor)}, sys.argv[2])"
)


def read_tensors(
  path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads all tensors of a safetensors file.

  The library checks the header against the file's size, and offsets against
  each other, before a tensor takes memory.

  Args:
    path: the file.

  Returns:
    Name -> array (floats as float32, whole numbers as they are), and the
    file's metadata.

  Raises:
    InputError: no such file, a pickle, a damaged file, a type that no network
      here has, or numbers that are not finite.
  """
  path = pathlib.Path(path)
  _refuse_pickle(path)
  tensors, broken = {}, []
  try:
    with safetensors.safe_open(path, "np") as file:
      metadata = dict(file.metadata() or {})
      for name in file.keys():
        dtype = file.get_slice(name).get_dtype()
        if dtype not in (*_FLOATS, *_WHOLE):
          raise InputError(
            f"{path}: {name}", f"one of {', '.join(_FLOATS + _WHOLE)}", dtype
          )
        tensor = file.get_tensor(name)
        if dtype in _FLOATS:
          with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float32, copy=False)
          if not np.isfinite(tensor).all():
            broken.append(name)
        tensors[name] = tensor
  except (safetensors.SafetensorError, OSError) as error:
    text = str(error).splitlines()[0][:200]
    raise InputError(path, "a whole safetensors file", text) from error
  if broken:
    raise InputError(path, "finite numbers", f"NaN or inf in {listed(broken)}")
  if not tensors:
    raise InputError(path, "tensors", "none")
  return tensors, metadata


def write_tensors(
  path: str | os.PathLike,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str],
) -> None:
  """Writes tensors as safetensors, whole or not at all."""
  # The library ignores strides.
  whole = {
    name: np.ascontiguousarray(tensor).reshape(tensor.shape)
    for name, tensor in tensors.items()
  }
  with atomic.write_aside(path) as aside:
    safetensors.numpy.save_file(whole, aside, metadata=dict(metadata))


def _refuse_pickle(path: pathlib.Path) -> None:
  if not path.is_file():
    found = "a folder" if path.is_dir() else "no such file"
    raise InputError(path, "a safetensors file", found)
  try:
    with open(path, "rb") as file:
      start = file.read(_JSON_AT + 1)
  except OSError as error:
    raise InputError(path, "a readable file", error) from error
  if start[_JSON_AT:] == b"{":
    return
  if path.suffix.lower() in _PICKLE_SUFFIXES or start.startswith(
    _PICKLE_STARTS
  ):
    files = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
    command = f'python -c "{_CONVERT}" {files}'
    raise InputError(
      path,
      f"safetensors, as `{command}` makes where PyTorch is",
      "a pickle, which may run anything when it is read",
    )
