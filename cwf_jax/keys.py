"""Keys of stored results: one is used again where the values, the code and the version that it was made from are the same.

    make_key("raw", 720, [1, 2])
    hash_sources("images", "encoder.py")     # changes with every edit of these files
    hash_function(pool_crow)                 # changes with every edit of this function
"""

import functools
import hashlib
import inspect
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cwf_jax.version import __version__

_ROOT = Path(__file__).parent
_PACKAGE = __name__.partition(".")[0]


def make_key(*parts: Any) -> str:
  """The SHA-256, in hexadecimal, of values that JSON can hold and of the package's version."""
  return hashlib.sha256(json.dumps((__version__, *parts), sort_keys=True).encode()).hexdigest()


@functools.cache
def hash_sources(*names: str) -> str:
  """The SHA-256, in hexadecimal, of modules of this package, as they were at the first call.

  Args:
    names: paths below the package, of files or of folders with all that is in them.

  Raises:
    ValueError: there is no such file or folder.
  """
  digest = hashlib.sha256()
  for name in names:
    path = _ROOT / name
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    if not files:
      raise ValueError(f"the package has no modules in {name}")
    for file in files:
      digest.update(f"{file.relative_to(_ROOT).as_posix()}\n".encode() + file.read_bytes())
  return digest.hexdigest()


@functools.cache
def hash_function(function: Callable) -> str:
  """The SHA-256, in hexadecimal, of a function's source, and of its whole file where it is not this package's.

  A function without source, as typed at a prompt, has another key in each process.
  """
  is_own = (getattr(function, "__module__", None) or "").partition(".")[0] == _PACKAGE
  try:
    source = inspect.getsource(function) + ("" if is_own else inspect.getsource(inspect.getmodule(function)))
  except (OSError, TypeError):
    source = uuid.uuid4().hex
  return hashlib.sha256(source.encode()).hexdigest()
