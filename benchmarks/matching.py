"""What does it cost to match places of ten answers whose maps are at hand, beside NumPy?

  python benchmarks/matching.py                        # maps of 16x24 cells, 672 channels whitened to 128
  python benchmarks/matching.py --answers 60
  python benchmarks/matching.py --smoke                # a tiny size, to check that it runs

Both start at the feature maps: normalize and whiten each cell, find mutual nearest neighbors, vote for a transformation. An
answer shows the query moved, with noise, so that it has as many matches as count (150): the most work there is. NumPy's form is
vectorized over cells, matches and transformations, one answer at a time. The two take turns in one process.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
from operations import time_in_turns

from cwf_jax.ops.matching import STEPS, Matches, MatchSettings, describe_cells, match_places
from cwf_jax.ops.whitening import Whitening, fit_whitening


def main(arguments: list[str] | None = None) -> None:
  """Prints the time of all answers and the largest difference."""
  options = parse(arguments)
  query, answers, whitening = draw(options)
  on_device = jax.device_put((query, answers, whitening))
  compiled = jax.jit(match).lower(*on_device).compile()
  passes = {
    "cwf_jax": lambda: jax.block_until_ready(compiled(*on_device)),
    "numpy": functools.partial(match_numpy, query, answers, np.asarray(whitening.mean), np.asarray(whitening.projection)),
  }
  ours, theirs = (run() for run in passes.values())
  difference = max(np.abs(np.asarray(one) - other).max() for one, other in zip(ours[:3], theirs, strict=True))
  matches = np.count_nonzero(ours.cosines, axis=1)
  print(
    f"{options.answers} answers of {options.cells[0]} x {options.cells[1]} cells, {options.channels} channels whitened to "
    f"{options.dimensions}, {jax.default_backend()}: {matches.min()} to {matches.max()} matches, "
    f"{ours.places.min()} to {ours.places.max()} places"
  )
  for peer, seconds in time_in_turns(passes, options.runs).items():
    print(f"{peer}: {1e3 * np.median(seconds):.1f} ms ({1e3 * seconds.min():.1f} .. {1e3 * seconds.max():.1f})")
  print(f"largest difference in places and boxes: {difference}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options; `--smoke` overrides the others."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--answers", type=int, default=10)
  parser.add_argument("--runs", type=int, default=9)
  parser.add_argument("--smoke", action="store_true", help="a tiny size and two runs")
  options = parser.parse_args(arguments)
  options.cells, options.channels, options.dimensions = (16, 24), 672, 128
  if options.smoke:
    options.answers, options.cells, options.channels, options.dimensions, options.runs = 2, (5, 8), 24, 12, 2
  return options


def draw(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, Whitening]:
  """A query's features, half of them zero, those of its answers, and a whitening fitted on both."""
  random = np.random.default_rng(0)
  shape = (*options.cells, options.channels)
  query = random.normal(size=shape)
  answers = [np.roll(query, (n, n), (0, 1)) + 0.5 * random.normal(size=shape) for n in range(options.answers)]
  query, answers = (np.maximum(maps, 0).astype(np.float32) for maps in (query, np.stack(answers)))
  cells = np.concatenate([query[None], answers]).reshape(-1, options.channels)
  return query, answers, fit_whitening(cells / np.linalg.norm(cells, axis=1, keepdims=True), options.dimensions)


def match(query, answers, whitening) -> Matches:
  """METHOD 4b, from feature maps to places and boxes."""
  query_mask, answer_masks = jnp.ones(query.shape[:2], bool), jnp.ones(answers.shape[:3], bool)
  query_cells = describe_cells(query[None], whitening, query_mask[None])[0]
  return match_places(query_cells, query_mask, describe_cells(answers, whitening, answer_masks), answer_masks)


def match_numpy(query, answers, mean, projection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The same in NumPy: places, boxes of the query, boxes of the answers."""
  settings = MatchSettings()
  angles, scales = (grid.ravel() for grid in np.meshgrid(np.radians(settings.rotations), settings.scales, indexing="ij"))
  cosines, sines = (np.rint(STEPS * scales * turn).astype(np.int32) for turn in (np.cos(angles), np.sin(angles)))
  tolerances = np.floor(STEPS * settings.tolerance * np.maximum(scales, 1)).astype(np.int32)[:, None, None]

  def describe(features):
    cells = features.reshape(-1, features.shape[-1])
    cells = (cells / np.linalg.norm(cells, axis=1, keepdims=True) - mean) @ projection
    return cells / np.linalg.norm(cells, axis=1, keepdims=True)

  def bound(cells, columns):
    x, y = cells % columns, cells // columns
    return x.min(), y.min(), x.max() + 1, y.max() + 1

  query_cells, columns, results = describe(query), query.shape[1], []
  for answer in answers:
    similar = np.rint(STEPS * (query_cells @ describe(answer).T)).astype(np.int32)
    nearest = similar.argmax(1)
    largest = similar.max(1)
    mutual = (similar.argmax(0)[nearest] == np.arange(len(similar))) & (largest >= settings.min_cosine * STEPS)
    ours = np.flatnonzero(mutual)
    ours = ours[np.argsort(-largest[ours], kind="stable")][: settings.max_matches]
    theirs = nearest[ours]
    x, y = ours % columns, ours // columns
    right = STEPS * (theirs % columns) - (cosines[:, None] * x - sines[:, None] * y)
    down = STEPS * (theirs // columns) - (sines[:, None] * x + cosines[:, None] * y)
    near = np.abs(right[:, None] - right[..., None]) <= tolerances
    near &= np.abs(down[:, None] - down[..., None]) <= tolerances
    counts = np.count_nonzero(near, axis=2)
    best = near[counts == counts.max()]
    agrees = best[(best @ largest[ours]).argmax()]
    results.append((agrees.sum(), bound(ours[agrees], columns), bound(theirs[agrees], columns)))
  return tuple(map(np.array, zip(*results, strict=True)))


if __name__ == "__main__":
  main()
