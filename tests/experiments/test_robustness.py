"""A short run of the robustness experiment."""

import numpy as np
import pytest

from experiments.robustness import fuzz, spoil


@pytest.mark.slow
def test_files_that_are_spoiled_are_refused_in_a_line(tmp_path):
  record = fuzz.run(tmp_path, 2 * len(fuzz.KINDS))
  assert record["faults"] == []
  assert record["ended"].keys() == set(fuzz.KINDS)
  # A second run continues the record and repeats no case.
  assert fuzz.run(tmp_path, record["done"]) == record
  assert fuzz.format_table(record).count("\n") == 2 + len(set(fuzz.KINDS))


def test_a_case_depends_on_its_number_alone():
  content = b'{"a": [1, 2, {"b": null}], "c": "text"}'
  for number in range(50):
    one, again = (
      spoil.spoil(content, ".json", np.random.default_rng((15, number)))
      for _ in range(2)
    )
    assert one == again
