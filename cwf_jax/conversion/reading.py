"""Reading a foreign file in a process of its own.

HDF5 is a library in C, and a file with one wrong byte can have it loop for ever or end its process. So a process is started
for each file: what goes in is ours (a pickle), what comes out is numbers and texts alone, and its time and memory are bounded.
"""

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cwf_jax.conversion import array_files, caffe_files, files, keras_files
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.sources import Matched, Problems, Source, has_names, read_weights
from cwf_jax.conversion.tables import AUTO, Table
from cwf_jax.errors import printable

PATIENCE = 60.0
"""Seconds that a process may take, and one more for each megabyte of its file."""

MEMORY, MEMORY_FACTOR = 2**29, 8
"""Bytes that a process may allocate, plus this factor times the size of its file."""

_MESSAGE = "message"


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a file holds of a network.

  Attributes:
    layout: of the file.
    form: place of the table that its weights were matched with, among the layout's.
    is_turn_known: whether the file shows that kernels are turned or not.
    is_publisher_known: whether the file's names show which library's preprocessing its network has.
    matched: its weights by the keys of the layout's table, and what is wrong with them.
  """

  layout: str
  form: int
  is_turn_known: bool
  is_publisher_known: bool
  matched: Matched


Tables = Mapping[str, Sequence[Table]]
"""The tables of a network by layout."""


def read(
  source: str | os.PathLike,
  tables: Tables,
  layout: str,
  kernel_shapes: Mapping[str, tuple[int, ...]],
  others: Mapping[str, Tables] | None = None,
) -> Reading:
  """Reads a file in this process.

  Args:
    source: its path.
    tables: of the network, by layout; where there are several, the one with as many layers as the file, or the first.
    layout: one of `tables.LAYOUTS`, or "auto".
    kernel_shapes: of the network's layers, by target.
    others: the tables of other networks, by name, so that a file of one of them is named.

  Raises:
    ConversionError: it is of an unknown kind, damaged, of another layout or of another network altogether.
  """
  path, kind = files.find_kind(source)
  with _open_source(path, kind, layout) as opened:
    if layout not in (AUTO, opened.layout):
      raise ConversionError(f"{printable(path)} is of the layout {opened.layout}, not {layout}")
    if not any(has_names(opened, table) for table in tables.get(opened.layout, ())):
      for name, known in (others or {}).items():
        if any(has_names(opened, table) for table in known.get(opened.layout, ())):
          raise ConversionError(f"{printable(path)} is of another network: its layers are those of {name}; --network={name}")
    if opened.layout not in tables:
      layouts = ", ".join(tables)
      raise ConversionError(f"{printable(path)} is of the layout {opened.layout}; this network is read from: {layouts}")
    forms = tables[opened.layout]
    form = next((place for place, table in enumerate(forms) if len(table.layers) == len(opened.layers)), 0)
    matched = read_weights(opened, forms[form], kernel_shapes)
    return Reading(opened.layout, form, opened.is_turn_known, opened.is_publisher_known, matched)


def _open_source(path: Path, kind: str, layout: str) -> contextlib.AbstractContextManager[Source]:
  if kind in (files.HDF5, files.KERAS_ZIP):
    return keras_files.open_keras(path, kind, layout)
  return contextlib.nullcontext(caffe_files.read_caffe(path) if kind == files.CAFFE else array_files.read_arrays(path, kind))


def read_apart(
  source: str | os.PathLike,
  tables: Tables,
  layout: str,
  kernel_shapes: Mapping[str, tuple[int, ...]],
  patience: float = PATIENCE,
  others: Mapping[str, Tables] | None = None,
) -> Reading:
  """As `read`, in a process of its own.

  Raises:
    ConversionError: as `read`; and where that process does not end in time, or is ended by a signal.
    RuntimeError: the process failed on its own account.
  """
  path, kind = files.find_kind(source)
  request = pickle.dumps((path.absolute(), dict(tables), layout, dict(kernel_shapes), others))
  command = [sys.executable, "-P", "-c", "from cwf_jax.conversion.reading import serve; serve()"]
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
  limit = patience + path.stat().st_size / 1e6
  damaged = f"{printable(path)} cannot be read, it is damaged"
  with tempfile.TemporaryFile() as output:  # not a pipe, which would hold all of it in memory once more
    try:
      done = subprocess.run(command, input=request, env=environment, stdout=output, stderr=subprocess.PIPE, timeout=limit)
    except subprocess.TimeoutExpired:
      raise ConversionError(f"{damaged}: reading {kind} did not finish within {limit:.0f} seconds") from None
    if done.returncode < 0:
      raise ConversionError(f"{damaged}: reading {kind} was ended by {_name_signal(-done.returncode)}")
    if done.returncode:
      raise RuntimeError(f"the process that reads {printable(path)} failed: {done.stderr.decode(errors='replace').strip()}")
    output.seek(0)
    with np.load(output, allow_pickle=False) as archive:
      weights = {name: archive[name] for name in archive.files}
  message = json.loads(weights.pop(_MESSAGE).tobytes())
  if "error" in message:
    raise ConversionError(message["error"])
  problems = Problems(**message["problems"])
  matched = Matched(weights, message["epsilons"], problems, message["notes"])
  return Reading(matched=matched, **message["file"])


def serve() -> None:
  """The other end of `read_apart`: a request on standard input, the answer on standard output, in NumPy's format."""
  source, tables, layout, kernel_shapes, others = pickle.load(sys.stdin.buffer)
  _limit_memory(MEMORY + MEMORY_FACTOR * source.stat().st_size)
  weights: dict[str, np.ndarray] = {}
  try:
    found = read(source, tables, layout, kernel_shapes, others)
    matched, about = found.matched, {name: value for name, value in vars(found).items() if name != "matched"}
    message = {"file": about, "epsilons": matched.epsilons, "notes": matched.notes}
    weights, message["problems"] = matched.arrays, dataclasses.asdict(matched.problems)
  except ConversionError as error:
    message = {"error": str(error)}
  except MemoryError:
    message = {"error": f"{printable(source)} cannot be read: it asks for far more memory than its size explains"}
  np.savez(sys.stdout.buffer, **weights, **{_MESSAGE: np.frombuffer(json.dumps(message).encode(), np.uint8)})


def _limit_memory(size: int) -> None:
  """Bounds the address space of this process to `size` bytes more than it has; only Linux says how much that is."""
  with contextlib.suppress(ImportError, OSError, ValueError):
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size,) * 2)


def _name_signal(number: int) -> str:
  with contextlib.suppress(ValueError):
    return signal.Signals(number).name
  return f"signal {number}"

