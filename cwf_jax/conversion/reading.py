"""Reading a foreign file in a process of its own.

HDF5 is a library in C, and a file with one wrong byte can have it loop for ever or end its process. So a process is started
for each file: what goes in is ours (a pickle), what comes out is numbers and texts alone, and it has its time.
"""

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cwf_jax.conversion import files, layouts
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.tables import AUTO, Table
from cwf_jax.errors import printable

PATIENCE = 60.0
"""Seconds that a process may take, and one more for each megabyte of its file."""

_MESSAGE = "message"


class Reading(NamedTuple):
  """What a file holds of a network.

  Attributes:
    layout: of the file.
    weights: by the keys of the layout's table; those with a problem are left out.
    problems: everything that is missing, extra, misshapen or no number.
    notes: what a person should know.
  """

  layout: str
  weights: dict[str, np.ndarray]
  problems: list[str]
  notes: list[str]


def read(
  source: str | os.PathLike, tables: Mapping[str, Table], layout: str, kernel_shapes: Mapping[str, tuple[int, ...]]
) -> Reading:
  """Reads a file in this process.

  Args:
    source: its path.
    tables: of the network, by layout.
    layout: one of them, or "auto".
    kernel_shapes: of the network's layers, by target.

  Raises:
    ConversionError: it is no HDF5, damaged, of another layout or of another network altogether.
  """
  with files.open_hdf5(source) as file:
    chosen = layouts.detect_layout(file) if layout == AUTO else layout
    found = layouts.list_weights(file, chosen, tables[chosen])
    weights, problems = layouts.read_weights(found, tables[chosen], kernel_shapes)
  return Reading(chosen, weights, problems, list(found.notes))


def read_apart(
  source: str | os.PathLike,
  tables: Mapping[str, Table],
  layout: str,
  kernel_shapes: Mapping[str, tuple[int, ...]],
  patience: float = PATIENCE,
) -> Reading:
  """As `read`, in a process of its own.

  Raises:
    ConversionError: as `read`; and where that process does not end in time, or is ended by a signal.
    RuntimeError: the process failed on its own account.
  """
  path = files.check_file(source)
  request = pickle.dumps((path.absolute(), dict(tables), layout, dict(kernel_shapes)))
  command = [sys.executable, "-P", "-c", "from cwf_jax.conversion.reading import serve; serve()"]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
  limit = patience + path.stat().st_size / 1e6
  damaged = f"{printable(path)} cannot be read, it is damaged"
  try:
    done = subprocess.run(command, input=request, env=environment, capture_output=True, timeout=limit)
  except subprocess.TimeoutExpired:
    raise ConversionError(f"{damaged}: HDF5 did not come to an end within {limit:.0f} seconds") from None
  if done.returncode < 0:
    raise ConversionError(f"{damaged}: HDF5 was ended by {_name_signal(-done.returncode)}")
  if done.returncode:
    raise RuntimeError(f"the process that reads {printable(path)} failed: {done.stderr.decode(errors='replace').strip()}")
  with np.load(io.BytesIO(done.stdout), allow_pickle=False) as archive:
    weights = {name: archive[name] for name in archive.files}
  message = json.loads(weights.pop(_MESSAGE).tobytes())
  if "error" in message:
    raise ConversionError(message["error"])
  return Reading(message["layout"], weights, message["problems"], message["notes"])


def serve() -> None:
  """The other end of `read_apart`: a request on standard input, the answer on standard output, in NumPy's format."""
  source, tables, layout, kernel_shapes = pickle.load(sys.stdin.buffer)
  weights: dict[str, np.ndarray] = {}
  try:
    found = read(source, tables, layout, kernel_shapes)
    weights, message = found.weights, {"layout": found.layout, "problems": found.problems, "notes": found.notes}
  except ConversionError as error:
    message = {"error": str(error)}
  answer = io.BytesIO()
  np.savez(answer, **weights, **{_MESSAGE: np.frombuffer(json.dumps(message).encode(), np.uint8)})
  sys.stdout.buffer.write(answer.getbuffer())


def _name_signal(number: int) -> str:
  with contextlib.suppress(ValueError):
    return signal.Signals(number).name
  return f"signal {number}"

