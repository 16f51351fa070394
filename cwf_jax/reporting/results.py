"""What an evaluation found, as values: for `report`, for `results.json`, and for the run that is compared with it later.

    measured = Measured("toy_oxford", "toy Oxford", rows, names)
    report = Report((measured,), head, settings, seconds, (compare(measured),))
    (output / "results.json").write_text(json.dumps(to_results(report)))
    there = read_results(output, "toy_oxford", names)
"""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.evaluation.rows import Row, to_json
from cwf_jax.metrics.average_precision import mean_average_precision
from cwf_jax.metrics.bootstrap import Interval
from cwf_jax.reporting.published import Line
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS

FORMATS = {"N-S": "z.2f"}
"""How the values of a metric are written, where it is not with three decimals; z: no minus before a zero."""


class Measured(NamedTuple):
  """One data set, or one with distractors.

  Attributes:
    name: such as "oxford5k", "oxford105k".
    title: such as "Oxford105k".
    rows: of systems, in order; none where it was not run.
    queries: the names of the queries, in the order of the rows' values.
    reason: why it was not run.
    kept: names of rows that were not asked for, and are there from an earlier run on the same.
    made: when, by which versions and on which device this run made rows; a row of an earlier run has its own.
  """

  name: str
  title: str
  rows: tuple[Row, ...]
  queries: tuple[str, ...]
  reason: str = ""
  kept: frozenset[str] = frozenset()
  made: Mapping[str, str] = MappingProxyType({})

  @property
  def metrics(self) -> tuple[str, ...]:
    """Of the rows, the one that counts first."""
    return next((tuple(row.values) for row in self.rows if row.was_run), ())

  @property
  def main_metrics(self) -> tuple[str, ...]:
    """Those that tables show: of the revisited sets the average precisions alone."""
    return self.metrics if len(self.metrics) < 4 else tuple(name for name in self.metrics if name.startswith("mAP"))

  def label(self, metric: str) -> str:
    """A metric and, where not every query counts, how many do."""
    row = next(row for row in self.rows if row.was_run)
    count = sum(not math.isnan(value) for value in row.values[metric])
    return metric if count == len(self.queries) else f"{metric} of {count:,} of {len(self.queries):,} queries"

  def find(self, line: Line) -> Row | None:
    """The row of a table's line, whatever network it ran on."""
    return next((row for row in self.rows if system_of(row.name) == line.system), None)


class Difference(NamedTuple):
  """What one row has more than another.

  Attributes:
    name, other: of the rows.
    means: of both.
    interval: of the difference.
  """

  name: str
  other: str
  means: tuple[float, float]
  interval: Interval


class Comparison(NamedTuple):
  """Differences of one kind.

  Attributes:
    title: what was compared.
    metric: by which.
    differences: in order.
    notes: sentences: what else is not the same, what could not be compared.
  """

  title: str
  metric: str
  differences: tuple[Difference, ...]
  notes: tuple[str, ...] = ()


class OtherRun(NamedTuple):
  """What another evaluation wrote.

  Attributes:
    where: its folder.
    values: of the data set and of those with distractors, by name, and there of each row that was run, by its name, in the
      order of the queries; NaN where a query has no positive.
    classes: of each row with a fixed list, by its name, the names of the list.
    head: of its report.
    settings: by name.
  """

  where: str
  values: Mapping[str, Mapping[str, Sequence[float]]]
  classes: Mapping[str, tuple[str, ...]]
  head: Mapping[str, str]
  settings: Mapping[str, Any]


class Report(NamedTuple):
  """Everything that is told.

  Attributes:
    measured: the data set, and with distractors.
    head: what was run, by name: command, weights, versions, device ...
    settings: of the evaluation.
    seconds: by part.
    comparisons: of rows, and with another run.
  """

  measured: tuple[Measured, ...]
  head: Mapping[str, str]
  settings: Settings
  seconds: Mapping[str, float]
  comparisons: tuple[Comparison, ...] = ()


def system_of(row: str) -> str:
  """A row's name without the network that it ran on."""
  return row.partition("@")[0]


def mean_of(row: Row, metric: str) -> float | None:
  """The mean over the queries that have a positive; None where none has."""
  value = mean_average_precision(row.values[metric])
  return None if math.isnan(value) else value


def form_of(metric: str) -> str:
  """How the values of a metric are written."""
  return FORMATS.get(metric, "z.3f")


def is_bare(row: Row) -> bool:
  """Whether a row was run without the whitening that its system has."""
  return row.was_run and not row.whitened_by and not SYSTEMS[row.system].plain


def tell_means(row: Row, metrics: Sequence[str]) -> str:
  """The means of a row that was run, side by side."""
  means = [mean_of(row, metric) for metric in metrics]
  if not any(mean is not None for mean in means):
    return "no query has a positive"
  return " / ".join("-" if mean is None else f"{mean:{form_of(metric)}}" for mean, metric in zip(means, metrics, strict=True))


def to_results(report: Report) -> dict[str, Any]:
  """Everything, as plain values: `{"dataset", "systems": {name: {"map", "metric", "per_query", ...}}, ...}`.

  "map" and "per_query" are of the metric that counts first, which "metric" names: "mAP", "mAP Medium", "N-S".
  """
  first = report.measured[0]
  return {
    "dataset": first.name,
    "systems": {row.name: _row_to_json(row, first) for row in first.rows},
    "with_distractors": {
      one.name: {"reason": one.reason, "systems": {row.name: _row_to_json(row, one) for row in one.rows}}
      for one in report.measured[1:]
    },
    "differences": {
      one.title: [{"system": found.name, "less": found.other, **found.interval._asdict()} for found in one.differences]
      for one in report.comparisons
    },
    "notes_on_differences": {one.title: list(one.notes) for one in report.comparisons if one.notes},
    "head": dict(report.head),
    "preset": report.settings.preset_name,
    "settings": report.settings.to_json(),
    "changed_settings": report.settings.changes(),
    "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
  }


def format_queries(measured: Measured) -> str:
  """The values of each query as comma-separated text: query, then a column for each row and metric."""
  run = [row for row in measured.rows if row.was_run]
  columns = [(row, metric) for row in run for metric in row.values]
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  single = len(measured.metrics) == 1
  writer.writerow(["query", *(row.name if single else f"{row.name} {metric}" for row, metric in columns)])
  for place, query in enumerate(measured.queries):
    values = [row.values[metric][place] for row, metric in columns]
    writer.writerow([query, *("" if math.isnan(value) else repr(value) for value in values)])
  return text.getvalue()


def read_results(folder: str | os.PathLike, dataset: str, queries: Sequence[str]) -> OtherRun:
  """Reads what another run wrote.

  Args:
    folder: the output of an evaluation.
    dataset: that it is of.
    queries: that it has.

  Raises:
    InputError: there are no results in the folder, or they are of another data set or of other queries.
  """
  file = Path(folder) / "results.json"
  try:
    results = json.loads(file.read_bytes())
    found, head, settings = str(results["dataset"]), dict(results["head"]), dict(results["settings"])
    systems = {found: results["systems"]} | {name: one["systems"] for name, one in results.get("with_distractors", {}).items()}
    run = {name: _read_values(rows) for name, rows in systems.items()}
    classes = {row["name"]: tuple(map(str, row["classes"])) for row in results["systems"].values() if row["classes"]}
  except OSError as error:
    raise InputError(f"the results {printable(file)} cannot be read: {reason_of(error)}") from None
  except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
    raise InputError(f"{printable(file)} holds no results of an evaluation") from None
  if found != dataset:
    raise InputError(f"the results {printable(file)} are of {found}, not of {dataset}")
  others = [row.keys() for rows in run.values() for row in rows.values() if row.keys() != set(queries)]
  if others:
    counts = f"{len(others[0])} there and {len(queries)} here"
    one = printable(sorted(others[0] ^ set(queries))[0])[:100]
    raise InputError(f"the results {printable(file)} are of other queries of {dataset}: {counts}, {one} in one of both alone")
  values = {name: {row: [one[query] for query in queries] for row, one in rows.items()} for name, rows in run.items()}
  return OtherRun(os.fspath(folder), values, classes, head, settings)


def _read_values(systems: Mapping[str, Any]) -> dict[str, dict[str, float]]:
  """Of each row that was run, by its name, the value of each query."""
  per_query = {row["name"]: dict(row["per_query"]) for row in systems.values()}
  return {
    name: {query: math.nan if value is None else float(value) for query, value in values.items()}
    for name, values in per_query.items()
    if values
  }


def _row_to_json(row: Row, measured: Measured) -> dict[str, Any]:
  told = row._asdict()
  values = told.pop("values")
  metrics = {metric: mean_of(row, metric) for metric in values}
  first = next(iter(values), None)
  per_query = {} if first is None else dict(zip(measured.queries, to_json(values)[first], strict=True))
  more = {metric: dict(zip(measured.queries, one, strict=True)) for metric, one in to_json(values).items() if metric != first}
  found = {"map": metrics.get(first), "metric": first, "metrics": metrics, "per_query": per_query}
  return {**found, "per_query_of_other_metrics": more, **told, "made": dict(row.made)}
