"""How long does it take to convert a VGG-16-CAM from each kind of file, and in how much memory?

    python benchmarks/conversion.py
    python benchmarks/conversion.py --kinds caffe,torch
    python benchmarks/conversion.py --smoke                    # one kind; for the tests

Writes the published width with seeded random weights in every form that the tests write, converts each in a process of its own
by `cwf_jax.conversion.convert.convert`, and prints seconds (reading, the look at three photographs and the checkpoint included,
Python's start and JAX's import not) and the peak of both processes: the one that converts, and the one that reads for it.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMOKE = "npz"


def megabytes(who: int) -> float:
  """The peak of this process or of its children; Linux counts in KiB, macOS in bytes."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(who).ru_maxrss * unit / 1e6


def write(kind: str, path: pathlib.Path) -> None:
  """Runs in a process of its own, whose memory is not counted."""
  import numpy as np

  from cwf_jax.models import parameters, registry
  from tests.conversion import foreign_vgg16_cam as foreign

  listed = parameters.list_parameters(registry.build("vgg16_cam"))
  arrays = {name: np.asarray(array) for name, array in listed.items()}
  foreign.WRITERS[kind](path, {layer: (arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]) for layer in foreign.LAYERS})


def measure(path: pathlib.Path) -> None:
  """Runs in a process of its own: one line of numbers."""
  from cwf_jax.conversion.convert import convert

  start = time.perf_counter()
  convert(path, "vgg16_cam", path.with_name("checkpoint"))
  print(time.perf_counter() - start, megabytes(resource.RUSAGE_SELF), megabytes(resource.RUSAGE_CHILDREN))


def main() -> None:
  """Writes and measures each kind, and prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--kinds", help="names of the tests' writers, separated by commas; default: all")
  parser.add_argument("--smoke", action="store_true", help="one kind")
  parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
  parser.add_argument("--measure", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.write:
    return write(options.write[0], pathlib.Path(options.write[1]))
  if options.measure:
    return measure(pathlib.Path(options.measure))
  sys.path.insert(0, str(ROOT))
  from tests.conversion.foreign_vgg16_cam import WRITERS

  kinds = [SMOKE] if options.smoke else options.kinds.split(",") if options.kinds else list(WRITERS)
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  print("| kind | MB | seconds | MB at most, converting | MB at most, reading |\n|---|---|---|---|---|")
  for kind in kinds:
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "weights.h5x"
      subprocess.run([sys.executable, __file__, "--write", kind, str(path)], env=environment, check=True)
      called = [sys.executable, __file__, "--measure", str(path)]
      printed = subprocess.run(called, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
      numbers = [path.stat().st_size / 1e6, *map(float, printed.split())]
    print("| {} | {:.0f} | {:.1f} | {:.0f} | {:.0f} |".format(kind, *numbers), flush=True)


if __name__ == "__main__":
  main()
