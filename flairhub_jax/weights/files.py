"""Weight files: safetensors, never pickle.

Unpickling can run arbitrary code. The error for a pickle gives the command that
converts it to safetensors on a machine with PyTorch.
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
_INTEGERS = ("BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
# The header is JSON, after its length in 8 bytes.
_HEADER_OFFSET = 8

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

  The library checks header, file size and offsets before it allocates memory
  for a tensor.

  Args:
    path: the file.

  Returns:
    Name -> array (floats as float32, integers unchanged), and the file's
    metadata.

  Raises:
    InputError: no such file, a pickle, a damaged file, an unsupported dtype, or
      values that are not finite.
  """
  path = pathlib.Path(path)
  _refuse_pickle(path)
  tensors, not_finite = {}, []
  try:
    with safetensors.safe_open(path, "np") as file:
      metadata = dict(file.metadata() or {})
      for name in file.keys():
        dtype = file.get_slice(name).get_dtype()
        if dtype not in (*_FLOATS, *_INTEGERS):
          raise InputError(
            f"{path}: {name}", f"one of {', '.join(_FLOATS + _INTEGERS)}", dtype
          )
        tensor = file.get_tensor(name)
        if dtype in _FLOATS:
          with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float32, copy=False)
          if not np.isfinite(tensor).all():
            not_finite.append(name)
        tensors[name] = tensor
  except (safetensors.SafetensorError, OSError) as error:
    text = str(error).splitlines()[0][:200]
    raise InputError(path, "a valid safetensors file", text) from error
  if not_finite:
    raise InputError(
      path, "finite values", f"NaN or inf in {listed(not_finite)}"
    )
  if not tensors:
    raise InputError(path, "tensors", "none")
  return tensors, metadata


def write_tensors(
  path: str | os.PathLike,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str],
) -> None:
  """Writes tensors as safetensors, atomically."""
  # The library ignores strides.
  contiguous = {
    name: np.ascontiguousarray(tensor).reshape(tensor.shape)
    for name, tensor in tensors.items()
  }
  with atomic.write_aside(path) as aside:
    safetensors.numpy.save_file(contiguous, aside, metadata=dict(metadata))


def _refuse_pickle(path: pathlib.Path) -> None:
  if not path.is_file():
    found = "a folder" if path.is_dir() else "no such file"
    raise InputError(path, "a safetensors file", found)
  try:
    with open(path, "rb") as file:
      start = file.read(_HEADER_OFFSET + 1)
  except OSError as error:
    raise InputError(path, "a readable file", error) from error
  if start[_HEADER_OFFSET:] == b"{":
    return
  if path.suffix.lower() in _PICKLE_SUFFIXES or start.startswith(
    _PICKLE_STARTS
  ):
    files = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
    command = f'python -c "{_CONVERT}" {files}'
    raise InputError(
      path,
      f"safetensors; with PyTorch, convert it by `{command}`",
      "a pickle, which can run arbitrary code",
    )
