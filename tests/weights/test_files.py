"""Tensor files: bitwise reading, and refused content."""

import json
import pickle
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from flairhub_jax.errors import InputError
from flairhub_jax.weights import files


def raw(path, header, data=b"", length=None):
  """A file with this header, whatever it says."""
  if not isinstance(header, bytes):
    header = json.dumps(header).encode()
  length = len(header) if length is None else length
  path.write_bytes(struct.pack("<Q", length) + header + data)
  return path


def entry(start, stop, shape=(4,), dtype="F32"):
  return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def refusal(path):
  with pytest.raises(InputError) as error:
    files.read_tensors(path)
  text = str(error.value)
  assert str(path) in text and "\n" not in text
  return text


def test_written_tensors_are_read_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  tensors = {
    "a.weight": rng.standard_normal((3, 4)).astype(np.float32).T,
    "a.count": np.array(7, np.int64),
    "b": np.float32([-0.0, 1e-40]),
  }
  path = tmp_path / "x.safetensors"
  files.write_tensors(path, tensors, {"encoder": "resnet18"})
  actual, metadata = files.read_tensors(path)
  assert metadata == {"encoder": "resnet18"}
  assert actual.keys() == tensors.keys()
  for name, tensor in tensors.items():
    assert actual[name].shape == tensor.shape
    assert actual[name].dtype == tensor.dtype
    assert actual[name].tobytes() == tensor.tobytes()
  assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(tmp_path, dtype):
  path = tmp_path / "x.safetensors"
  values = np.array([1.5, -2.0, 0.25], dtype)
  safetensors.numpy.save_file({"a": values}, path)
  actual, _ = files.read_tensors(path)
  assert actual["a"].dtype == np.float32
  np.testing.assert_array_equal(actual["a"], values.astype(np.float32))


@pytest.mark.parametrize(
  ("header", "data"),
  [
    pytest.param({"x": entry(0, 16)}, bytes(8), id="truncated"),
    pytest.param(
      {"x": entry(0, 16), "y": entry(8, 24)}, bytes(24), id="overlapping"
    ),
    pytest.param(
      {"x": entry(0, 16, (1 << 40, 1 << 40))}, bytes(16), id="huge shape"
    ),
    pytest.param({"x": entry(0, 16, (5,))}, bytes(16), id="shape and offsets"),
    pytest.param({"x": entry(0, 1 << 50)}, bytes(16), id="beyond the end"),
    pytest.param({"x": entry(0, 16, dtype="Q9")}, bytes(16), id="no such type"),
    pytest.param(
      {"x": entry(0, 4, dtype="F8_E4M3")}, bytes(4), id="eight bits"
    ),
    pytest.param(b'{"x": ', b"", id="no JSON"),
    pytest.param(b"[" * 100_000, b"", id="nested"),
    pytest.param({}, b"", id="no tensors"),
  ],
)
def test_hostile_headers(tmp_path, header, data):
  refusal(raw(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("length", [1 << 30, 1 << 62, (1 << 64) - 1])
def test_a_header_larger_than_the_file(tmp_path, length):
  refusal(raw(tmp_path / "x.safetensors", {"x": entry(0, 16)}, length=length))


def test_files_that_are_none(tmp_path):
  assert "no such file" in refusal(tmp_path / "absent.safetensors")
  assert "a folder" in refusal(tmp_path)
  (tmp_path / "empty.safetensors").touch()
  refusal(tmp_path / "empty.safetensors")


def as_zip(path):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", b"")


def as_pickle(path):
  path.write_bytes(pickle.dumps({"state_dict": {}}, protocol=2))


@pytest.mark.parametrize("write", [as_zip, as_pickle])
@pytest.mark.parametrize(
  "name", ["a b.ckpt", "a.pth", "a.pt", "a.bin", "a.safetensors"]
)
def test_a_pickle_is_refused_with_what_converts_it(tmp_path, write, name):
  path = tmp_path / name
  write(path)
  text = refusal(path)
  assert "weights_only=True" in text and "state_dict" in text
  # The command is Python that compiles.
  (code,) = re.findall(r'python -c "([^"]*)"', text)
  compile(code, "command", "exec")


def test_the_suffix_of_a_pickle_on_safetensors_is_no_fault(tmp_path):
  path = tmp_path / "x.bin"
  safetensors.numpy.save_file({"a": np.ones(2, np.float32)}, path)
  files.read_tensors(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, value):
  path = tmp_path / "x.safetensors"
  tensors = {f"t{i}": np.full(2, value, np.float32) for i in range(8)}
  tensors["good"] = np.ones(2, np.float32)
  safetensors.numpy.save_file(tensors, path)
  text = refusal(path)
  assert "t0" in text and "3 more" in text and "good" not in text


def test_numbers_beyond_float32_are_not_finite(tmp_path):
  path = tmp_path / "x.safetensors"
  safetensors.numpy.save_file({"a": np.array([1e300])}, path)
  assert "a" in refusal(path)
