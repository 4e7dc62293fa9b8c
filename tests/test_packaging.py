"""What is installed: packages, dependencies, versions."""

import ast
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flairhub_jax

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
DEVELOPMENT = {
  "beartype",
  "ipykernel",
  "mypy",
  "nbclient",
  "nbformat",
  "pytest",
  "pytest-xdist",
  "ruff",
}
# Extra -> the files that may need what it brings.
NEED_EXTRAS = {"report": ("studies", "figures"), "slurm": ("studies",)}


def distributions(lines):
  """Names of the distributions that requirements name."""
  return {canonicalize_name(Requirement(line).name) for line in lines}


def pins():
  """Name -> version in requirements.txt."""
  lines = (ROOT / "requirements.txt").read_text().splitlines()
  pairs = [line.split("==") for line in lines if not line.startswith("#")]
  return {canonicalize_name(name): version for name, version in pairs}


def package_folders():
  """Dotted name -> folder of each package of the sources."""
  folders = {
    ".".join(path.relative_to(ROOT).parent.parts): path.parent
    for path in (ROOT / "flairhub_jax").rglob("__init__.py")
  }
  return folders | {"flairhub_jax.configs": ROOT / "configs"}


def libraries(path):
  """Top-level modules that a file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
      yield node.module.split(".")[0]


def test_every_package_is_installed():
  assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())
  assert (ROOT / "flairhub_jax" / "py.typed").is_file()
  patterns = SETUPTOOLS["package-data"]["flairhub_jax"]
  files = [p.name for t in patterns for p in (ROOT / "flairhub_jax").glob(t)]
  assert files == ["py.typed", "web_page.html"]


def test_sources_import_declared_dependencies_only():
  owners = importlib.metadata.packages_distributions()
  base = distributions(PROJECT["project"]["dependencies"])
  used = set()
  for package, folder in package_folders().items():
    room = package.partition(".")[2]
    declared = base.union(
      *(
        distributions(PROJECT["project"]["optional-dependencies"][extra])
        for extra, users in NEED_EXTRAS.items()
        if room in users
      )
    )
    for path in folder.glob("*.py"):
      for name in libraries(path):
        if name in sys.stdlib_module_names or name == "flairhub_jax":
          continue
        owned = {canonicalize_name(owner) for owner in owners[name]}
        assert owned & declared, f"{path} imports {name}: declare it"
        used |= owned
  assert base <= used, "declared, and imported nowhere"


def test_no_development_tool_is_a_dependency():
  extras = PROJECT["project"]["optional-dependencies"]
  for name in ("cuda", "tpu", "slurm", "report"):
    assert not distributions(extras[name]) & DEVELOPMENT
  assert not distributions(PROJECT["project"]["dependencies"]) & DEVELOPMENT
  assert DEVELOPMENT <= distributions(extras["dev"])


def test_the_pins_are_within_the_declared_ranges():
  pinned = pins()
  declared = [
    *PROJECT["project"]["dependencies"],
    *(
      line
      for extra in ("slurm", "report", "dev")
      for line in PROJECT["project"]["optional-dependencies"][extra]
    ),
  ]
  for requirement in map(Requirement, declared):
    name = canonicalize_name(requirement.name)
    if name == "flairhub-jax":
      continue
    assert pinned[name] in requirement.specifier, requirement


def test_the_version_stands_in_one_place():
  assert "version" in PROJECT["project"]["dynamic"]
  attribute = SETUPTOOLS["dynamic"]["version"]["attr"]
  assert attribute == "flairhub_jax.__version__"
  assert re.fullmatch(r"\d+\.\d+\.\d+", flairhub_jax.__version__)


@pytest.mark.parametrize(
  ("command", "library", "extra"),
  [
    ("sweep --config=a --workdir=b --executor=slurm", "submitit", "slurm"),
    ("report", "pandas", "report"),
  ],
)
def test_a_command_names_the_extra_that_it_lacks(
  command, library, extra, monkeypatch, capsys
):
  from flairhub_jax import __main__

  for name in [n for n in sys.modules if n.startswith("flairhub_jax.")]:
    if name.split(".")[1] in ("commands", "studies"):
      monkeypatch.delitem(sys.modules, name)
  # None in sys.modules is how Python marks a module that cannot be imported.
  for name in [n for n in sys.modules if n.split(".")[0] == library]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, library, None)
  with pytest.raises(SystemExit) as stop:
    sys.exit(__main__.main(command.split()))
  assert stop.value.code == 1
  [line] = capsys.readouterr().err.splitlines()
  assert library in line and f"flairhub_jax[{extra}]" in line
