"""What more than one mode says."""

import os
import shlex
import sys


def program() -> str:
  """How this program was started, to be written before flags in a shell."""
  script = sys.argv[0]
  if os.path.basename(script).startswith("cwf-jax"):
    return "cwf-jax"
  return f"{_near(sys.executable)} {_near(script) if script.endswith('main.py') else 'main.py'}"


def _near(path: str) -> str:
  """From where we are, if the path leads down from here."""
  relative = os.path.relpath(path)
  return shlex.quote(os.path.abspath(path) if relative.startswith("..") else relative)
