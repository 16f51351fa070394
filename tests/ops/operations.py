"""Every operation on arrays with what it takes and gives, for the tests that hold one thing of all of them.

The axes are written down here as the method has them, and not read from the signatures, so that a signature cannot be wrong
unnoticed. `test_axes.py` and `test_nan.py` each hold that no operation is missing.
"""

import ast
import functools
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import cwf_jax.ops
from cwf_jax.ops import (
  aggregation,
  attribution,
  cams,
  grid,
  normalize,
  pooling,
  quantization,
  ranking,
  regions,
  resizing,
  weighting,
)
from cwf_jax.ops.matching import MatchSettings, describe_cells, match_places, select_cells
from cwf_jax.ops.whitening import Whitening, apply_whitening, fit_whitening

SIZES = {"b": 3, "i": 4, "j": 5, "k": 6, "c": 2, "d": 4, "n": 8, "q": 3, "m": 4, "p": 7, "r": 3, "s": 2, "t": 2, "4": 4}
"""Of each axis by its name; no two that meet in one operation are equal unless they are few."""


class Operation(NamedTuple):
  """What an operation takes and gives.

  Attributes:
    function: called with every argument by its name.
    arrays: the axes of each array it takes.
    results: the axes of each array it gives.
    batch: axes of which no element may touch another.
    empty: axes that may have no elements.
    settings: its other arguments.
    traced: whether it works under `jit` and `vmap`; what reads the host's memory does not.
    note: what tells it from another way to call the same function.
  """

  function: Callable
  arrays: dict[str, str]
  results: tuple[str, ...]
  batch: str = "b"
  empty: str = ""
  settings: Mapping[str, Any] = MappingProxyType({})
  traced: bool = True
  note: str = ""

  @property
  def name(self) -> str:
    """Of the function."""
    return getattr(self.function, "func", self.function).__name__

  def call(self, *arrays: Any) -> tuple[Any, ...]:
    """The results for arrays in the order of `self.arrays`, always as a tuple; only a database may stay on the host."""
    given = {
      name: array if name == "database" and not self.traced else jnp.asarray(array)
      for name, array in zip(self.arrays, arrays, strict=True)
    }
    found = self.function(**given, **self.settings)
    return tuple(found) if isinstance(found, tuple) else (found,)


def merge(rows: jax.Array, scores: jax.Array, k: int) -> ranking.Ranking:
  """The operation of this name takes a sequence of rankings; here it gets the same one twice."""
  return ranking.merge([ranking.Ranking(rows, scores), ranking.Ranking(rows + SIZES["n"], scores)], k)


def draw_whitening(channels: int, dimensions: int) -> Whitening:
  """Of unit rows without a negative value."""
  rows = np.abs(np.random.default_rng(7).normal(size=(40, channels)))
  return fit_whitening(rows / np.linalg.norm(rows, axis=1, keepdims=True), dimensions)


def draw(operation: Operation, sizes: dict[str, int] = SIZES, seed: int = 0) -> dict[str, np.ndarray]:
  """Arrays that the operation can take: activations and unit rows are >= 0, a mask is a rectangle, identifiers differ."""
  random = np.random.default_rng(seed)
  drawn = {}
  for name, axes in operation.arrays.items():
    shape = tuple(sizes[axis] for axis in axes.split())
    if name.endswith(("mask", "masks")):
      drawn[name] = np.zeros(shape, bool)
      rows, columns = shape[-2:]
      for image, inside in enumerate(drawn[name].reshape(-1, rows, columns)):
        # a smaller part of each next image, always with the upper left cell
        inside[: max(rows - image, 1), : max(columns - image, 1)] = True
    elif name == "boxes":
      corner = random.integers(0, 2, (*shape[:-1], 2))
      drawn[name] = np.concatenate([corner, corner + random.integers(1, 4, corner.shape)], axis=-1).astype(np.int32)
    elif name in ("rows", "class_ids", "wanted"):
      drawn[name] = np.stack([random.permutation(sizes["n"])[: shape[1]] for _ in range(shape[0])]).astype(np.int32)
    elif name == "matches":
      drawn[name] = random.random(shape) < 0.6
    else:
      values = np.abs(random.normal(size=shape)) * (random.random(shape) < 0.8)
      if axes.split()[-1] in "kd" and len(shape) < 4:
        values /= np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
      drawn[name] = values.astype(np.float32)
  return drawn


def list_functions(only_checked: bool = False) -> set[str]:
  """The public functions of `cwf_jax.ops`, of all or of those that check their axes, by what is written in its files."""
  found = set()
  for module in pkgutil.iter_modules(cwf_jax.ops.__path__):
    tree = ast.parse((Path(cwf_jax.ops.__path__[0]) / f"{module.name}.py").read_text())
    for node in tree.body:
      if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        checked = any("check_axes" in ast.unparse(decorator) for decorator in node.decorator_list)
        if checked or not only_checked:
          found.add(node.name)
  return found


FEATURES, CAMS, MASK = {"features": "b i j k"}, {"cams": "b i j c"}, {"mask": "b i j"}
_CHANNELS, _CELLS, _BOXES = {"channel_weights": "b k"}, {"spatial_weights": "b i j"}, {"boxes": "b t 4"}
_ANSWERS = {"queries": "q k", "descriptors": "n k", "rows": "q m", "scores": "q m"}
_SEARCH = {"queries": "q k", "database": "n k"}
_RANKING = ("q m", "q m")
_MESH = Mesh(np.array(jax.devices()[:1]), ("data",))

_IMAGES = [
  Operation(cams.compute_cams, {"cam_features": "b i j d", "class_weights": "d c"} | MASK, ("b i j c",), empty="c"),
  Operation(cams.compute_cams, {"cam_features": "b i j d", "class_weights": "b d c"}, ("b i j c",), empty="c", note="own"),
  Operation(weighting.compute_channel_weights, FEATURES | MASK, ("b k",)),
  Operation(weighting.compute_channel_weights, FEATURES | MASK, ("b k",), settings={"epsilon": 0.1}, note="epsilon"),
  Operation(weighting.compute_spatial_weights, FEATURES | MASK, ("b i j",)),
  Operation(weighting.compute_center_weights, FEATURES | MASK, ("b i j",)),
  Operation(pooling.pool_sum, FEATURES | MASK | _CELLS | _CHANNELS, ("b k",)),
  Operation(pooling.pool_max, FEATURES | MASK, ("b k",)),
  Operation(pooling.pool_max, FEATURES, ("b k",), note="whole"),
  Operation(pooling.pool_gem, FEATURES | MASK, ("b k",)),
  Operation(pooling.pool_gem, FEATURES, ("b k",), settings={"exponent": 2.5}, note="whole"),
  Operation(pooling.pool_rmac, FEATURES | MASK, ("b 50 k",)),
  Operation(pooling.pool_class_vectors, FEATURES | CAMS | _CHANNELS | MASK, ("b c k",), empty="c"),
  Operation(pooling.pool_region_vectors, FEATURES | CAMS | _BOXES | MASK, ("b t c k",), empty="c t"),
  Operation(resizing.enlarge, {"maps": "b i j d"} | MASK, ("b 2i 2j d",), settings={"factor": 2}),
  Operation(regions.find_regions, {"heatmaps": "b i j"}, ("b 5 4",)),
  Operation(select_cells, CAMS | MASK, ("b i j",)),
  Operation(describe_cells, FEATURES | MASK, ("b i j k",)),
  Operation(
    describe_cells,
    FEATURES | MASK,
    ("b i j d",),
    settings={"whitening": draw_whitening(SIZES["k"], SIZES["d"])},
    note="whitened",
  ),
  Operation(
    match_places,
    {"query_cells": "i j d", "query_mask": "i j", "answer_cells": "b p q d", "answer_masks": "b p q"},
    ("b", "b 4", "b 4", "b 6 2", "b 6 2", "b 6", "b 6"),
    settings={"settings": MatchSettings(max_matches=6, rotations=(0.0, 180.0), scales=(1.0,))},
  ),
  Operation(grid.place_spans, MASK, ("b 6 2", "b 24 2", "b")),
  Operation(grid.place_regions, MASK, ("b 50 4",)),
]

_VECTORS = [
  Operation(normalize.l2_normalize, {"vectors": "b k"}, ("b k",)),
  Operation(
    functools.partial(apply_whitening, draw_whitening(SIZES["k"], SIZES["d"])), {"vectors": "b k"}, ("b d",), empty="b"
  ),
  Operation(quantization.quantize, {"vectors": "b n k"}, ("b n k", "b n"), batch="b n", empty="b n"),
  Operation(
    quantization.dequantize, {"quantized": "b n k", "scales": "b n"}, ("b n k",), batch="b n", empty="b n"
  ),
  Operation(aggregation.aggregate, {"class_vectors": "b n k"}, ("b k",), empty="n"),
  Operation(
    aggregation.match_classes, {"class_ids": "b n", "wanted": "q m"}, ("q b n", "q b"), batch="q b", empty="b n q m"
  ),
  Operation(
    aggregation.aggregate_matching, {"class_vectors": "b n k", "matches": "q b n"}, ("q b k",), batch="q b", empty="q b n"
  ),
  Operation(aggregation.combine_scales, {"descriptors": "s b k"}, ("b k",), empty="b"),
  Operation(
    aggregation.combine_scales, {"descriptors": "s b k"}, ("b k",), empty="b", settings={"exponent": 3.0}, note="generalized"
  ),
  Operation(
    attribution.share_classes, {"class_vectors": "q m k", "answers": "q r k"}, ("q r m",), batch="q", empty="q m r"
  ),
]

_SEARCHES = [
  Operation(ranking.score, _SEARCH, ("q n",), batch="q n", empty="q n"),
  Operation(ranking.rank_scores, {"scores": "q n"}, _RANKING, batch="q", empty="q n", settings={"k": 4}),
  Operation(ranking.rank, _SEARCH, _RANKING, batch="q", settings={"k": 4}),
  Operation(merge, {"rows": "q m", "scores": "q m"}, _RANKING, batch="q", settings={"k": 4}),
  Operation(ranking.rank_blocks, _SEARCH, _RANKING, batch="q", settings={"k": 4, "block": 3}, traced=False),
  Operation(ranking.rank_shards, _SEARCH, _RANKING, batch="q", empty="q", settings={"k": 4, "mesh": _MESH}),
  Operation(
    ranking.expand_query,
    {"descriptors": "n k", "rows": "q m", "queries": "q k"},
    ("q k",),
    batch="q",
    empty="q m",
    settings={"n": 3},
  ),
  Operation(ranking.expand_query_by_scores, _ANSWERS, ("q k",), batch="q", empty="q m", settings={"n": 3}),
  Operation(
    ranking.augment_database,
    {"database": "n k"},
    ("n k",),
    batch="",  # a row is an answer to the others
    settings={"neighbors": 2, "block": 16},
    traced=False,
  ),
]

OPERATIONS = {f"{one.name} {one.note}".strip(): one for one in _IMAGES + _VECTORS + _SEARCHES}


@functools.cache
def compile_operation(label: str) -> Callable:
  """The operation, as one program for all tests of a process; as it is, where it cannot be traced."""
  return jax.jit(OPERATIONS[label].call) if OPERATIONS[label].traced else OPERATIONS[label].call
