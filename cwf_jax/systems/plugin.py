"""Systems of one's own, from a Python file outside the package: `--plugin=FILE`."""

import importlib.util
import sys
from pathlib import Path

from cwf_jax.errors import InputError, printable
from cwf_jax.systems.system import SYSTEMS


def load_plugin(path: str) -> tuple[str, ...]:
  """Runs a Python file that puts systems into `SYSTEMS`. It is your own code, and may do whatever Python can.

  Returns:
    The names of the systems that it has added.

  Raises:
    InputError: there is no such file, it fails, or it adds no system.
  """
  file, before = Path(path).expanduser(), dict(SYSTEMS)
  if not file.is_file():
    raise InputError(f"--plugin is a Python file that adds systems; there is no file {printable(path)}")
  name = f"cwf_jax_plugin_{file.stem}"
  spec = importlib.util.spec_from_file_location(name, file)
  if spec is None or spec.loader is None:
    raise InputError(f"--plugin is a Python file, NAME.py; found {printable(path)}")
  sys.modules[name] = module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except Exception as error:
    raise InputError(f"the plugin {printable(path)} fails: {type(error).__name__}: {error}") from error
  added = tuple(system for system, value in SYSTEMS.items() if before.get(system) is not value)
  if not added:
    raise InputError(f'the plugin {printable(path)} adds no system: it sets SYSTEMS["name"] = System(...)')
  return added
