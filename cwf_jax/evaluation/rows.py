"""Finished rows of a table, each in a file named after all that it depends on."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from cwf_jax.files import write_whole


class Row(NamedTuple):
  """What is known of a system on a benchmark.

  Attributes:
    name: of the row, such as `raw+pca` or `rmac@default`.
    system: of `SYSTEMS`.
    reason: why it was not run; empty where it was.
    network: that it ran on, by the registry's name.
    layer: whose map it pools.
    sizes: of its images, in words.
    query: what it sees of a query with a box.
    dimensions: of its descriptors.
    capped_by: what leaves it fewer dimensions than its system or the settings ask for; empty where it has as many.
    whitened_by: where its whitening comes from; empty for none.
    vectors: that the whitening was fitted on.
    left_out: of the whitening: vectors that are zero or not finite.
    zero, not_finite: descriptors of the database that are; online, of a query and an image each.
    odd: the first of those images.
    odd_queries: queries whose descriptor is zero or not finite.
    unreadable: ids of distractors that cannot be read, and are left out.
    values: of each metric a value for each query, in the benchmark's order; NaN where it has no positive.
    seconds: from kept vectors to values.
    classes: of a fixed list, by name.
    made: when, and by which versions and on which device; see `runtime.describe_run`.
  """

  name: str
  system: str
  reason: str = ""
  network: str = ""
  layer: str = ""
  sizes: str = ""
  query: str = ""
  dimensions: int = 0
  capped_by: str = ""
  whitened_by: str = ""
  vectors: int = 0
  left_out: int = 0
  zero: int = 0
  not_finite: int = 0
  odd: tuple[str, ...] = ()
  odd_queries: int = 0
  unreadable: tuple[str, ...] = ()
  values: Mapping[str, list[float]] = MappingProxyType({})
  seconds: float = 0.0
  classes: tuple[str, ...] = ()
  made: Mapping[str, str] = MappingProxyType({})

  @property
  def was_run(self) -> bool:
    """Whether there are values."""
    return not self.reason


class CellStore:
  """A folder of finished rows."""

  def __init__(self, folder: str | os.PathLike):
    """Opens it, or makes it."""
    self._folder = Path(folder)
    self._folder.mkdir(parents=True, exist_ok=True)

  def find(self, key: str) -> Row | None:
    """The row of that key; None where there is none, or a damaged one, which is computed again."""
    try:
      values = json.loads((self._folder / f"{key}.json").read_bytes())
      row = Row(**values)
      tuples = {name: tuple(getattr(row, name)) for name in ("classes", "odd", "unreadable")}
      return row._replace(values=_from_json(row.values), made=dict(row.made), **tuples)
    except (OSError, ValueError, TypeError, AttributeError):
      return None

  def keep(self, key: str, row: Row) -> None:
    """Writes a row in one step.

    Raises:
      OSError: there is no room.
    """
    content = {**row._asdict(), "values": to_json(row.values), "made": dict(row.made)}
    write_whole(self._folder / f"{key}.json", json.dumps(content, allow_nan=False).encode())


def to_json(values: Mapping[str, list[float]]) -> dict[str, list[float | None]]:
  """NaN becomes null."""
  return {name: [None if math.isnan(one) else one for one in row] for name, row in values.items()}


def _from_json(values: dict[str, list[float | None]]) -> dict[str, list[float]]:
  return {name: [math.nan if one is None else one for one in row] for name, row in values.items()}
