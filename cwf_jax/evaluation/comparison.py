"""Systems and weights side by side on one collection: each one's score, and the differences with their intervals.

    results = {"random": with_best(measure(descriptors, collection), counts), "default": ...}
    compare(results["default"], results["random"])[Key("ofa64", "whitened")]["reference"].low > 0
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cwf_jax.evaluation.average_precision import mean_average_precision
from cwf_jax.evaluation.bootstrap import Interval, paired_bootstrap
from cwf_jax.evaluation.collection import Collection, rank_shuffled
from cwf_jax.evaluation.pooling import OFA, OWN, WHITENED, Key
from cwf_jax.evaluation.systems import POOLED

BEST = f"{OFA}_best"
"""Offline aggregation of the number of classes that scores best."""

REFERENCE = "reference"
"""The same system with the weights that others are compared with."""


class Measured(NamedTuple):
  """How one kind of descriptor does.

  Attributes:
    mean: of the values, the collection's metric; NaN where no query has a positive.
    values: of each query; NaN where it has no positive.
    dimensions: of the descriptors.
    zero: images whose descriptor is all zero: they come in random order.
    not_finite: images whose descriptor holds a NaN or an infinity: they come last, in random order.
  """

  mean: float
  values: Float[np.ndarray, "q"]
  dimensions: int
  zero: int
  not_finite: int


def measure(
  descriptors: Mapping[Key, Float[np.ndarray, "n d"]], collection: Collection, seed: int = 0
) -> dict[Key, Measured]:
  """Ranks and scores each kind of descriptor.

  Args:
    descriptors: of `collection.images`, in that order.
    collection: what is ranked.
    seed: of the order of equal scores, one order for all kinds.
  """
  place = {image_id: row for row, image_id in enumerate(collection.images)}
  database, queries = ([place[image_id] for image_id in ids] for ids in (collection.database, collection.queries))
  found = {}
  for key, rows in descriptors.items():
    values = collection.score(rank_shuffled(rows[queries], rows[database], collection.answers, seed))
    not_finite = int((~np.isfinite(rows)).any(1).sum())
    zero = int((rows == 0).all(1).sum())
    found[key] = Measured(mean_average_precision(values), values, rows.shape[1], zero, not_finite)
  return found


def best_count(measured: Mapping[Key, Measured], counts: Sequence[int], variant: str) -> int:
  """The number of classes whose sum scores best, the least among equals; the least of all where there is no score."""
  means = {count: measured[Key(f"{OFA}{count}", variant)].mean for count in sorted(counts)}
  return max(means, key=lambda count: -math.inf if math.isnan(means[count]) else means[count])


def with_best(measured: Mapping[Key, Measured], counts: Sequence[int]) -> dict[Key, Measured]:
  """Adds `BEST`, of each variant the number of classes that scores best.

  It is chosen on the queries that it is scored on, so its score is an upper bound of what a choice made elsewhere would give.
  """
  variants = dict.fromkeys(key.variant for key in measured if key.system.startswith(OFA))
  best = {Key(BEST, name): measured[Key(f"{OFA}{best_count(measured, counts, name)}", name)] for name in variants}
  return {**measured, **best}


def compare(
  measured: Mapping[Key, Measured], reference: Mapping[Key, Measured] | None = None, samples: int = 10_000, seed: int = 0
) -> dict[Key, dict[str, Interval]]:
  """What each kind of descriptor has more than others, over the same queries.

  Whitened is compared with whitened, and not whitened with not whitened; `OWN` with `WHITENED` where the other has no `OWN`.

  Args:
    measured: of some weights.
    reference: of the weights that they are compared with, kind by kind.
    samples: of the bootstrap.
    seed: of the bootstrap.

  Returns:
    For each kind the differences by name: `REFERENCE` and, of a class-weighted kind, each pooled system of the same weights.
    What has no counterpart, or whose queries have no value, has no difference.
  """
  found: dict[Key, dict[str, Interval]] = {}
  for key, mine in measured.items():
    others = {} if reference is None else {REFERENCE: _counterpart(reference, key.system, key.variant)}
    if key.system not in POOLED:
      others |= {name: _counterpart(measured, name, key.variant) for name in POOLED}
    found[key] = {
      name: paired_bootstrap(mine.values, other.values, samples, seed)
      for name, other in others.items()
      if other is not None and not math.isnan(mine.mean)
    }
  return found


def _counterpart(measured: Mapping[Key, Measured], system: str, variant: str) -> Measured | None:
  found = measured.get(Key(system, variant))
  return measured.get(Key(system, WHITENED)) if found is None and variant == OWN else found
