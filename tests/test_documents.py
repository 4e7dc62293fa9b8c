"""Documents cite only what a clone contains."""

import pathlib
import re
import subprocess

import pytest

from flairhub_jax import __main__

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def documents():
  """The Markdown files of the repository."""
  listed = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  actual = listed.stdout.split() or map(str, ROOT.glob("[!.]*/**/*.md"))
  return sorted({*actual, "README.md"})


@pytest.mark.parametrize("name", documents())
def test_links_of_a_document_lead_to_files(name):
  path = ROOT / name
  text = path.read_text(encoding="utf-8")
  for target in LINK.findall(text):
    if not target.startswith("https://"):
      assert (path.parent / target).exists(), target
  assert "../shared" not in text


def test_commands_of_the_readme_exist():
  text = (ROOT / "README.md").read_text(encoding="utf-8")
  named = set(re.findall(r"^    flairhub +([a-z-]+)", text, re.MULTILINE))
  assert {"convert", "train", "predict"} <= named
  assert named <= set(__main__.COMMANDS)
