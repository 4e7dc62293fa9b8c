"""Architecture: import levels, owners of libraries, file sizes."""

import ast
import pathlib
import re

import pytest

from flairhub_jax.commands import shipped_schemas

PACKAGE = pathlib.Path(__file__).parents[1] / "flairhub_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Package or module -> level. A file may import only from lower levels and from
# its own package.
LEVELS = {
  "errors": 0,
  "choice": 1,
  "atomic": 0,
  "terminal": 0,
  "text_table": 0,
  "web_page": 0,
  "array_type": 0,
  "faults": 0,
  "lock": 1,
  "processes": 1,
  # The tables and configurations that everything reads.
  "schema_check": 0,
  "schema": 1,
  "schema_file": 2,
  "class_merge": 2,
  "flair_hub": 2,
  "flair_challenges": 3,
  "fields": 2,
  "run_schema": 3,
  "merge_field": 3,
  "configs": 3,
  "configuration": 4,
  "config_file": 5,
  # Common to training and inference.
  "data": 5,
  "models": 5,
  "metrics": 5,
  "mesh": 5,
  "checkpoint": 6,
  "contract": 6,
  "figures": 5,
  "run_directory": 6,
  # Packages that do not import each other.
  "training": 7,
  "inference": 7,
  "mapping": 7,
  "studies": 7,
  "weights": 6,
  # Packages that import all others.
  "commands": 8,
  "notebook": 8,
  "__main__": 9,
  "__init__": 9,
}

# Library -> the packages or modules that import it. Records and files of
# weights are both safetensors.
IMPORTERS = {
  "grain": ("data/pipeline.py", "data/read_ahead.py"),
  "array_record": "data/shard_files.py",
  "orbax": "checkpoint.py",
  "flax.linen": "models",
  "matplotlib": "figures",
  "pyogrio": ("data", "mapping"),
  "rasterio": ("data", "mapping"),
  "shapely": "mapping",
  "filelock": "lock.py",
  "flatbuffers": "inference/export.py",
  "submitit": "studies/slurm.py",
  "tqdm": "terminal.py",
  "tensorboardX": "training/tracking.py",
  "ml_collections": ("configuration.py", "config_file.py"),
  "jinja2": "web_page.py",
  # Figures take its frames and need it for annotations only.
  "pandas": ("studies", "figures/comparison.py", "figures/subsets.py"),
  "scipy": ("studies/scores.py", "mapping/sieve.py"),
  "safetensors": (
    "data/shard_files.py",
    "data/series_lengths.py",
    "weights/files.py",
  ),
  "yaml": "weights/reference_yaml.py",
  "tomlkit": "commands/schema.py",
  "pydantic": (
    "schema.py",
    "schema_file.py",
    "weights/reference_document.py",
    "mapping/reference_zone.py",
  ),
}


def imported_modules(path: pathlib.Path) -> list[str]:
  """Dotted names of all that the file imports, wherever in the file."""
  names = []
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names += [f"{node.module}.{alias.name}" for alias in node.names]
  return names


def package_of(path: pathlib.Path) -> str:
  parts = path.relative_to(PACKAGE).with_suffix("").parts
  return parts[0]


@pytest.mark.parametrize(
  "path", FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down_the_levels(path):
  package = package_of(path)
  assert package in LEVELS, f"{path}: give this package a level"
  for name in imported_modules(path):
    if not name.startswith("flairhub_jax."):
      continue
    target = name.split(".")[1]
    if target == package and path.parent != PACKAGE:
      continue
    assert LEVELS.get(target, 0) < LEVELS[package], f"{path} imports {name}"


@pytest.mark.parametrize("library", IMPORTERS)
def test_each_library_is_imported_in_one_place(library):
  names = IMPORTERS[library]
  names = (names,) if isinstance(names, str) else names
  allowed = [PACKAGE / name for name in names]
  for path in FILES:
    if any(place in (path, *path.parents) for place in allowed):
      continue
    for name in imported_modules(path):
      assert not (name + ".").startswith(library + "."), (
        f"{path} imports {name}, which belongs to {', '.join(names)}"
      )


def test_the_data_package_never_imports_jax():
  for path in (PACKAGE / "data").rglob("*.py"):
    for name in imported_modules(path):
      assert name.split(".")[0] not in ("jax", "jaxlib", "flax", "optax"), path


# What is about FLAIR-HUB: its schemas, the reference's files, simulated data.
NAMING = ("flair_hub.py", "flair_challenges.py", "weights", "data/simulation")
NAMING += ("data/simulate.py", "commands/simulate.py", "studies/published.py")


def test_only_schemas_name_sensors_and_classes():
  columns, names = set(), set()
  for schema in shipped_schemas.SCHEMAS.values():
    columns |= {*schema.columns, *schema.tasks}
    for task in schema.tasks.values():
      names |= set(task.class_names)
  names -= {"snow", "undefined", "other"}  # also words of other meanings
  allowed = [PACKAGE / path for path in NAMING]
  for path in FILES:
    if any(place in (path, *path.parents) for place in allowed):
      continue
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        assert node.value not in names, f"{path}:{node.lineno}: {node.value!r}"
        # Also within a message, a docstring or a part of an f-string.
        named = columns & set(re.findall(r"[\w-]+", node.value))
        assert not named, f"{path}:{node.lineno}: {', '.join(sorted(named))}"


@pytest.mark.parametrize(
  "path", FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_files_and_functions_stay_small(path):
  text = path.read_text(encoding="utf-8")
  assert len(text.splitlines()) <= 400, path
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef):
      limit = 150 if path.name == "loop.py" else 60
      length = node.end_lineno - node.lineno + 1
      assert length <= limit, f"{path}: {node.name} has {length} lines"
