"""What an evaluation tells: the head of its report, its files, and its lines on standard output."""

import json
import os
import shlex
import sys
from pathlib import Path

from cwf_jax.cli.call import CallError
from cwf_jax.cli.notes import program
from cwf_jax.errors import printable


def describe_call() -> dict[str, str]:
  """How and where the program was called; told before anything else, since a folder may go while a run goes on.

  Raises:
    CallError: the working directory is gone.
  """
  try:
    return {"command": f"`{shlex.join([*program().split(), *sys.argv[1:]])}`", "working directory": os.getcwd()}
  except FileNotFoundError:
    raise CallError("the working directory is gone: call this from another one") from None


def describe_head(
  values, called: dict[str, str], encoder, weights, ranked, pool, made: dict[str, str], remarks: tuple[str, ...]
) -> dict[str, str]:
  """The report's head, of the set that is ranked, what it is whitened by, and what the run is made by."""
  size, benchmark = encoder.settings.protocol.image_size, ranked.benchmark
  random = ", random: classes mean nothing" if weights.is_random else ""
  root = getattr(pool.images, "root", "")
  head = {
    **called,
    "folders": f"{benchmark.listing.root}{f', whitened by {root}' if root else ''}",
    "measured": made["measured"],
    "data set": f"{benchmark.name}: {len(benchmark.database):,} images, {len(benchmark.queries):,} queries",
    "images": f"sha256 {ranked.checked.sha256}",
    "ground truth": f"sha256 {benchmark.digest}",
    "weights": f"{weights.name} ({weights.network_name}, {len(encoder.settings.classes):,} classes), sha256 {weights.sha256}"
    f"{random}",
    "sizes": f"shorter side {size} where the paper has 720; other systems' sizes in proportion",
    "whitening": _tell_origin(encoder, pool),
    "preset": values["protocol"].value or "paper",
    **made,
  }
  return head | ({"remarks": "; ".join(remarks)} if remarks else {})


def _tell_origin(encoder, pool) -> str:
  """What the whitening was fitted on."""
  from cwf_jax.evaluation.experiment import BUNDLED
  from cwf_jax.models.parameters import hash_arrays
  from cwf_jax.problems import count_of

  if pool.checked is not None:
    itself = ": the evaluated set itself, as asked for" if pool.is_itself else ""
    return f"by {count_of(pool.images.ids, 'image', 'images')} of {pool.images.name}, sha256 {pool.checked.sha256}{itself}"
  if pool.images == BUNDLED:
    if encoder.whitening is None:
      return "none: the checkpoint has none"
    return f"the checkpoint's own, of class vectors, sha256 {hash_arrays(vars(encoder.whitening))}"
  return pool.reason or "none"


def write_report(report, output: Path) -> None:
  """Writes every file, each in one step; what an earlier run has written of other sets goes."""
  from cwf_jax.datasets.catalogue import KNOWN
  from cwf_jax.files import write_whole
  from cwf_jax.reporting.report import format_report
  from cwf_jax.reporting.results import format_queries, to_results

  first, *more = report.measured
  files = {"per_query.csv": format_queries(first)}
  files |= {f"per_query_{one.name}.csv": format_queries(one) for one in more if one.rows}
  others = {f"per_query_{known.with_distractors.lower()}.csv" for known in KNOWN.values() if known.with_distractors}
  tables = {"results.json": json.dumps(to_results(report), allow_nan=False, indent=1), "report.md": format_report(report)}
  for name, text in {**files, **tables}.items():
    write_whole(output / name, text.encode("utf-8", "backslashreplace"))  # a path need not be UTF-8
  for stale in others - set(files):
    (output / stale).unlink(missing_ok=True)


def format_lines(report, comparisons) -> list[str]:
  """The rows that were asked for, in short, and the comparisons with another run."""
  from cwf_jax.reporting.results import form_of

  lines = []
  for one in report.measured:
    rows = [row for row in one.rows if row.name not in one.kept]
    not_run = f"not run, {printable(one.reason)}" if one.reason else "no row was run"
    lines.append(f"{one.title}: {' / '.join(map(one.label, one.main_metrics)) or not_run}")
    width = max((len(printable(row.name)) for row in rows), default=0)
    lines += [f"  {printable(row.name):<{width}}  {_format_row(row, one.main_metrics)}" for row in rows]
  for one in comparisons:
    found = f"difference in {one.metric}, 95 % interval" if one.differences else "nothing to compare, no row was run in both"
    lines.append(f"{one.title}: {found}")
    width = max((len(printable(found.name)) for found in one.differences), default=0)
    form = form_of(one.metric)
    for found in one.differences:
      difference, low, high = found.interval
      lines.append(f"  {printable(found.name):<{width}}  {difference:+{form}}  {low:+{form}} to {high:+{form}}")
    lines += [f"  {printable(note)}" for note in one.notes]
  return lines


def explain_failure(measured) -> str:
  """Why none of the rows that were asked for was run, each reason once; empty where one was run."""
  rows = [row for one in measured for row in one.rows if row.name not in one.kept]
  reasons = dict.fromkeys(printable(row.reason) for row in rows if not row.was_run)
  return "" if any(row.was_run for row in rows) else f"no row was run: {'; '.join(reasons)}"


def _format_row(row, metrics) -> str:
  """A row's means and dimensions, and what capped these; or why it was not run."""
  from cwf_jax.reporting.results import is_bare, tell_means

  if not row.was_run:
    return f"not run: {printable(row.reason)}"
  capped = f", capped by {row.capped_by}" if row.capped_by else ""
  return f"{tell_means(row, metrics)}{' (not whitened)' if is_bare(row) else ''}  {row.dimensions} dimensions{capped}"
