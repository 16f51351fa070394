"""What one row gains over another, and one run over another: differences with intervals, by a paired bootstrap over queries.

    compare(measured).differences[0].interval    # (0.051, 0.045, 0.058)
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from cwf_jax.errors import printable
from cwf_jax.evaluation.rows import Row
from cwf_jax.metrics.bootstrap import paired_bootstrap
from cwf_jax.reporting.results import Comparison, Difference, Measured, OtherRun, Report, mean_of, system_of
from cwf_jax.systems.system import SYSTEMS

SAMPLES = 10_000
"""Of the bootstrap."""

_OF_ONE_RUN = ("command", "preset", "measured", "working directory", "folders")
"""Of the head: when, where and how it was called; settings are compared one by one."""


def compare(measured: Measured, samples: int = SAMPLES, seed: int = 0) -> Comparison:
  """What class weighting gains over pooling: each such row with each other one.

  Whitened is compared with whitened, and not whitened with not whitened.
  """
  metric = next(iter(measured.metrics), "")
  run = [row for row in measured.rows if row.was_run and mean_of(row, metric) is not None]
  weighted = [row for row in run if SYSTEMS[row.system].classes is not None]
  found = []
  for row in weighted:
    for other in run:
      if other not in weighted and bool(row.whitened_by) == bool(other.whitened_by):
        found.append(_differ(row, other.name, other.values[metric], metric, samples, seed))
  return Comparison(measured.title, metric, tuple(found))


def compare_runs(report: Report, other: OtherRun, samples: int = SAMPLES, seed: int = 0) -> tuple[Comparison, ...]:
  """What each row has more than the same system's row of another run on the same queries.

  Args:
    report: of this run.
    other: the other.
    samples, seed: of the bootstrap.

  Returns:
    A comparison of the data set, with notes on all that is not the same in both runs; then one with distractors, where both
    runs have rows of it.
  """
  first, *more = report.measured
  found = _compare_set(first, other, samples, seed)
  comparisons = [found._replace(notes=(*_list_changes(report, other), *found.notes))]
  comparisons += [_compare_set(one, other, samples, seed) for one in more if one.rows and other.values.get(one.name)]
  return tuple(comparisons)


def _compare_set(measured: Measured, other: OtherRun, samples: int, seed: int) -> Comparison:
  metric = next(iter(measured.metrics), "")
  values = other.values.get(measured.name, {})
  there = {system_of(name): name for name in values}
  run = [row for row in measured.rows if row.was_run and mean_of(row, metric) is not None]
  pairs = [(row, there[system_of(row.name)]) for row in run if system_of(row.name) in there]
  both = {row.name: int(_both(row.values[metric], values[name]).sum()) for row, name in pairs}
  found = [_differ(row, name, values[name], metric, samples, seed) for row, name in pairs if both[row.name]]
  notes = []
  if set(both.values()) - {len(measured.queries)}:
    counts = ", ".join(map(str, sorted(set(both.values()))))
    notes.append(f"means and differences are over the {counts} of {len(measured.queries)} queries that count in both")
  for row, name in pairs:
    listed = other.classes.get(name, ())
    if set(row.classes) != set(listed):
      notes.append(f"the list of {row.name}: here {', '.join(row.classes) or 'none'}; there {', '.join(listed) or 'none'}")
  alone = [row.name for row in run if system_of(row.name) not in there]
  only = [name for system, name in there.items() if system not in {system_of(row.name) for row in run}]
  notes += [f"only here: {', '.join(alone)}"] if alone else []
  notes += [f"only there: {', '.join(only)}"] if only else []
  return Comparison(f"{measured.title}, less the rows of {printable(other.where)}", metric, tuple(found), tuple(notes))


def _both(values, others) -> Bool[np.ndarray, "q"]:
  """The queries that have a value in both."""
  return ~(np.isnan(values) | np.isnan(others))


def _differ(row: Row, name: str, values, metric: str, samples: int, seed: int) -> Difference:
  """Means and difference are over the queries that have a value in both."""
  both = _both(row.values[metric], values)
  mean, other_mean = (float(np.mean(np.asarray(some)[both])) for some in (row.values[metric], values))
  return Difference(row.name, name, (mean, other_mean), paired_bootstrap(row.values[metric], values, samples, seed))


def _list_changes(report: Report, other: OtherRun) -> Iterator[str]:
  """What is not the same in both runs: of settings and of the head."""
  for name, here, there in _pair(report.settings.to_json(), other.settings):
    yield f"{name}: here {here}; there {there}"
  for name, here, there in _pair(report.head, other.head):
    if name not in _OF_ONE_RUN:
      yield f"{name}: here {_shorten(str(here))}; there {_shorten(str(there))}"


def _pair(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
  """What has another value in the other, or none in one of them."""
  for name in dict.fromkeys((*here, *there)):
    pair = here.get(name, "not told"), there.get(name, "not told")
    if pair[0] != pair[1]:
      yield name, *pair


def _shorten(text: str) -> str:
  """Digests by their first digits."""
  return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", text)
