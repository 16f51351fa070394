"""How many photographs a second does `--mode=index` encode, and how large is the index?

  python benchmarks/indexing.py                         # 900 JPEGs of 384x256, the default network and vgg16_cam_small
  python benchmarks/indexing.py --images 200 --weights default
  python benchmarks/indexing.py --smoke                 # a tiny size, to see that it runs

Each network works at its own default size, with the command line's defaults. Compiling is not counted: each network has indexed
a few photographs before. Networks take turns, so that their ratio holds on a machine with other work on it.
"""

import argparse
import resource
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cwf_jax.cli import allocator
from cwf_jax.encoder import Encoder
from cwf_jax.indexing.build import build_index
from cwf_jax.load import load_encoder


def main(arguments: list[str] | None = None) -> None:
  """Prints a line for each network."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=int, default=900)
  parser.add_argument("--weights", default="default,vgg16_cam_small")
  parser.add_argument("--runs", type=int, default=3)
  parser.add_argument("--smoke", action="store_true", help="random weights, four images")
  options = parser.parse_args(arguments)
  if options.smoke:
    options.images, options.weights, options.runs = 4, "random:vgg16_cam_quarter", 1
  allocator.keep_freed_memory()
  encoders = {name: load_encoder(name, image_size=64 if options.smoke else None) for name in options.weights.split(",")}
  rates: dict[str, list[float]] = {name: [] for name in encoders}
  with tempfile.TemporaryDirectory() as folder:
    few = make_photographs(Path(folder) / "few", 4)
    many = make_photographs(Path(folder) / "many", options.images)
    for encoder in encoders.values():
      index_photographs(few, encoder)
    for _ in range(options.runs):
      for name, encoder in encoders.items():
        rate, size = index_photographs(many, encoder)
        rates[name].append(rate)
        print(f"{name}: {rate:.1f} images a second, {size / 1000:.1f} kB an image", flush=True)
  medians = {name: statistics.median(values) for name, values in rates.items()}
  print("medians: " + ", ".join(f"{name} {value:.1f} images a second" for name, value in medians.items()))
  print(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


def make_photographs(folder: Path, count: int) -> Path:
  """JPEGs of 384x256 pixels with shapes and texture, all different."""
  generator = np.random.default_rng(count)
  folder.mkdir()
  for number in range(count):
    coarse = Image.fromarray(generator.integers(0, 256, (8, 12, 3), np.uint8)).resize((384, 256), Image.Resampling.BICUBIC)
    noise = generator.normal(0, 12, (256, 384, 1))
    pixels = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)
  return folder


def index_photographs(photographs: Path, encoder: Encoder) -> tuple[float, float]:
  """Images a second without compiling, and bytes of the index an image."""
  with tempfile.TemporaryDirectory() as folder:
    summary = build_index(photographs, Path(folder) / "index", encoder)
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return summary.indexed / (summary.seconds["total"] - summary.seconds["compile"]), size / summary.indexed


if __name__ == "__main__":
  main()
