"""Helpers that call commands as a user does and check what they write."""

from flairhub_jax import __main__


def call(capsys, *argv, code=0):
  """Runs a command; returns its standard output or its error line."""
  assert __main__.main([str(word) for word in argv]) == code
  message = capsys.readouterr()
  assert "Traceback" not in message.err
  return message.err if code else message.out


def left_over(folder, *expected):
  """Whether a folder has other entries than these, hidden ones included."""
  return {path.name for path in folder.iterdir()} == set(expected)
