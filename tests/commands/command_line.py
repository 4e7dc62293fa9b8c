"""Commands called as a user would, and what they leave."""

from flairhub_jax import __main__


def call(capsys, *argv, code=0):
  """What a command prints, or complains."""
  assert __main__.main([str(word) for word in argv]) == code
  told = capsys.readouterr()
  assert "Traceback" not in told.err
  return told.err if code else told.out


def left_over(folder, *expected):
  """Whether a folder holds nothing else, hidden or not."""
  return {path.name for path in folder.iterdir()} == set(expected)
