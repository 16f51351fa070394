"""Does indexing hold a bounded number of images in memory, whatever their number?

    python benchmarks/indexing_memory.py                       # 750, 1500 and 3000 images, each in a process of its own
    python benchmarks/indexing_memory.py --images 20000
    python benchmarks/indexing_memory.py --smoke               # seconds; for the tests

Makes small JPEGs, indexes a quarter of them, a half and all, and prints each run's peak resident set, how much of it was
there before the first image (Python, JAX and the compiled program), and its images per second. What grows with the number
of images is what is known of each: names, and what the index holds of their files; a few hundred bytes an image.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_images(folder: pathlib.Path, count: int) -> None:
  """JPEGs of 96x72 pixels, a hundred in a folder."""
  import numpy as np
  from PIL import Image

  generator = np.random.default_rng(0)
  for number in range(count):
    path = folder / f"{number // 100:04}" / f"{number:06}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
    small.resize((96, 72), Image.Resampling.BICUBIC).save(path, quality=90)


def megabytes() -> float:
  """The peak of this process so far; Linux counts in KiB, macOS in bytes."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(arguments: argparse.Namespace) -> None:
  """Runs in a process of its own: one line of numbers."""
  from cwf_jax.indexing.build import build_index
  from cwf_jax.load import load_encoder

  encoder = load_encoder(arguments.weights, image_size=arguments.image_size)
  starts = []
  summary = build_index(
    arguments.measure, arguments.index, encoder, batch_size=arguments.batch_size, progress=lambda *_: starts.append(megabytes())
  )
  rate = summary.indexed / (summary.seconds["total"] - summary.seconds["compile"])
  print(summary.rows, starts[0], megabytes(), rate)


def main() -> None:
  """Measures three sizes and prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--images", type=int, default=3000)
  parser.add_argument("--weights", default="random:vgg16_cam_quarter")
  parser.add_argument("--image_size", type=int, default=64)
  parser.add_argument("--batch_size", type=int, default=8)
  parser.add_argument("--smoke", action="store_true", help="80 images")
  parser.add_argument("--measure", help=argparse.SUPPRESS)
  parser.add_argument("--index", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.measure:
    return measure(arguments)
  whole = 80 if arguments.smoke else arguments.images
  print("| images | MB at the first batch | MB at most | images/s without compiling |\n|---|---|---|---|")
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    write_images(folder / "images", whole)
    names = sorted(str(path) for path in (folder / "images").rglob("*.jpg"))
    for count in (whole // 4, whole // 2, whole):
      (folder / "list.txt").write_text("\n".join(names[:count]))
      settings = [f"--{name}={getattr(arguments, name)}" for name in ("weights", "image_size", "batch_size")]
      called = [sys.executable, __file__, f"--measure={folder / 'list.txt'}", f"--index={folder / f'{count}.index'}", *settings]
      environment = {**os.environ, "PYTHONPATH": str(ROOT)}
      told = subprocess.run(called, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
      print("| {:.0f} | {:.0f} | {:.0f} | {:.1f} |".format(*map(float, told)), flush=True)


if __name__ == "__main__":
  main()
