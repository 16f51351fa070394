"""What do the operations after the network cost, beside the network itself and beside NumPy?

  python benchmarks/operations.py                      # one image of 720x1024, 45x64 cells, VGG-16-CAM's channels
  python benchmarks/operations.py --images 8
  python benchmarks/operations.py --smoke              # a tiny size, to see that it runs

Class vectors are those of all classes, from the CAM features on; regions are five thresholds' largest components, as region
re-ranking takes them. NumPy's forms are vectorized over cells and channels; its components are SciPy's. The two take turns in
one process, several runs at a turn: the threads of NumPy's products still spin when the next turn begins. Times are an image's.
"""

import argparse
import functools
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from forward import prepare_jax, time_alternating
from scipy import ndimage

from cwf_jax.models import registry
from cwf_jax.ops.cams import compute_cams
from cwf_jax.ops.grid import place_regions
from cwf_jax.ops.pooling import pool_class_vectors, pool_gem, pool_max, pool_rmac
from cwf_jax.ops.regions import THRESHOLDS, find_regions
from cwf_jax.ops.weighting import compute_channel_weights


def main(arguments: list[str] | None = None) -> None:
  """Prints one line an operation, and what share of a forward pass it is."""
  options = parse(arguments)
  features, cam_features, weights, heatmaps = draw(options)
  grid = np.asarray(place_regions(jnp.ones((1, *options.cells), bool)))[0]
  grid = grid[grid.any(1)]
  maps = (features, cam_features, weights)
  operations: dict[str, tuple[Callable, Callable, tuple[np.ndarray, ...]]] = {
    f"class vectors of {options.classes} classes": (pool_all_classes, pool_all_classes_numpy, maps),
    "MAC": (pool_max, lambda features: features.max((1, 2)), (features,)),
    "GeM": (pool_gem, pool_gem_numpy, (features,)),
    f"R-MAC, {len(grid)} regions": (pool_rmac, functools.partial(pool_rmac_numpy, grid), (features,)),
    "regions, 5 thresholds": (find_regions, find_regions_numpy, (heatmaps,)),
  }
  print(f"{options.images} x {options.cells[0]} x {options.cells[1]} cells, {jax.default_backend()}")
  forward = None if options.smoke else time_forward(options)
  for name, (ours, theirs, arrays) in operations.items():
    on_device = [jnp.asarray(array) for array in arrays]
    compiled = jax.jit(ours).lower(*on_device).compile()
    passes = {
      "cwf_jax": functools.partial(lambda run, *on: jax.block_until_ready(run(*on)), compiled, *on_device),
      "numpy": functools.partial(theirs, *arrays),
    }
    difference = compare(name, passes["cwf_jax"](), passes["numpy"]())
    seconds = {peer: taken / options.images * 1e3 for peer, taken in time_in_turns(passes, options.runs).items()}
    told = ", ".join(f"{peer} {np.median(ms):.2f} ms ({ms.min():.2f} .. {ms.max():.2f})" for peer, ms in seconds.items())
    share = "" if forward is None else f"; {np.median(seconds['cwf_jax']) / forward:.1%} of a forward pass"
    print(f"{name}: {told}{share}; largest difference {difference:.1e}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options; `--smoke` overrides the others."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", type=int, default=1)
  parser.add_argument("--runs", type=int, default=9)
  parser.add_argument("--smoke", action="store_true", help="a tiny size and two runs")
  options = parser.parse_args(arguments)
  options.cells, options.channels, options.classes = (45, 64), (512, 1024), 1000
  if options.smoke:
    options.cells, options.channels, options.classes, options.runs = (5, 8), (6, 7), 3, 2
  return options


def draw(options: argparse.Namespace) -> list[np.ndarray]:
  """Features and CAM features, half of them zero, a classifier, and smooth heat maps with several hills."""
  random = np.random.default_rng(0)
  shape = (options.images, *options.cells)
  features, cam_features = (np.maximum(random.normal(size=(*shape, width)), 0) for width in options.channels)
  weights = random.normal(size=(options.channels[1], options.classes))
  heatmaps = ndimage.gaussian_filter(random.normal(size=shape), (0, 2, 2))
  return [array.astype(np.float32) for array in (features, cam_features, weights, np.maximum(heatmaps, 0))]


def time_forward(options: argparse.Namespace) -> float:
  """Milliseconds of VGG-16-CAM for an image of these cells; the median."""
  height, width = (16 * side for side in options.cells)
  pixels = np.random.default_rng(0).uniform(-120, 130, (1, height, width, 3)).astype(np.float32)
  run, _ = prepare_jax(registry.build("vgg16_cam"), pixels)
  run()
  milliseconds = 1e3 * statistics.median(time_alternating({"cwf_jax": run}, 5)["cwf_jax"])
  print(f"forward pass of vgg16_cam, {height}x{width}: {milliseconds:.0f} ms")
  return milliseconds


def pool_all_classes(features, cam_features, weights):
  """METHOD 2.1 to 2.3, for every class."""
  return pool_class_vectors(features, compute_cams(cam_features, weights), compute_channel_weights(features))


def pool_all_classes_numpy(features, cam_features, weights):
  """The same in NumPy, by its matrix products."""
  images, rows, columns, channels = features.shape
  cells, found = rows * columns, []
  for image in range(images):
    maps = np.maximum(cam_features[image].reshape(cells, -1) @ weights, 0)
    maps /= np.maximum(maps.max(0), 1e-30)
    flat = features[image].reshape(cells, channels)
    counts = np.count_nonzero(flat, axis=0)
    channel_weights = np.log(counts.sum() / np.maximum(counts, 1))
    vectors = maps.T @ flat * np.where(counts > 0, channel_weights, 0)
    found.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
  return np.stack(found)


def pool_gem_numpy(features):
  """The generalized mean, p = 3."""
  return (np.maximum(features, 1e-6) ** 3).mean((1, 2)) ** (1 / 3)


def pool_rmac_numpy(grid, features):
  """The maximum of each box, of unit length."""
  found = [features[:, top:bottom, left:right].max((1, 2)) for left, top, right, bottom in grid]
  vectors = np.stack(found, axis=1)
  return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def find_regions_numpy(heatmaps):
  """The bounding box of the largest 8-connected component above each threshold."""
  boxes = np.zeros((len(heatmaps), len(THRESHOLDS), 4), np.int32)
  for image, heatmap in enumerate(heatmaps):
    for place, threshold in enumerate(THRESHOLDS):
      labels, count = ndimage.label(heatmap > np.float32(threshold) * heatmap.max(), np.ones((3, 3)))
      if count:
        largest = np.bincount(labels.ravel())[1:].argmax()
        rows, columns = ndimage.find_objects(labels)[largest]
        boxes[image, place] = columns.start, rows.start, columns.stop, rows.stop
  return boxes


def time_in_turns(passes: dict[str, Callable], runs: int) -> dict[str, np.ndarray]:
  """Seconds of each pass: three turns of `runs` runs each, the first of a turn left out."""
  seconds: dict[str, list[float]] = {name: [] for name in passes}
  for _ in range(3):
    for name, run in passes.items():
      seconds[name] += time_alternating({name: run}, runs + 1)[name][1:]
  return {name: np.asarray(taken) for name, taken in seconds.items()}


def compare(name: str, ours, theirs) -> float:
  """The largest difference, relative to the maximum; R-MAC's rows without a region are left out."""
  ours = np.asarray(ours, np.float64)
  if name.startswith("R-MAC"):
    ours = ours[:, ours[0].any(1)]
  return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
  main()
