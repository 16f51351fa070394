"""What an evaluation tells: the head of its report, its files, and its lines on standard output."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

from cwf_jax.cli.notes import program


def describe_run(
  values, encoder, weights, benchmark, contents: tuple[str, str], whitened_by, no_whitening: str, remarks: tuple[str, ...]
) -> dict[str, str]:
  """The report's head; `contents` are the digests of the set's images and of those that are whitened by."""
  import platform

  import flax
  import jax
  import numpy

  from cwf_jax.indexing.build import default_batch_size
  from cwf_jax.version import __version__

  device, size = jax.devices()[0], encoder.settings.protocol.image_size
  random = ", random: classes mean nothing" if weights.is_random else ""
  pool = getattr(whitened_by, "root", "")
  head = {
    "command": f"`{shlex.join([*program().split(), *sys.argv[1:]])}`",
    "working directory": os.getcwd(),
    "folders": f"{benchmark.listing.root}{f', whitened by {pool}' if pool else ''}",
    "measured": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    "data set": f"{benchmark.name}: {len(benchmark.database):,} images, {len(benchmark.queries):,} queries"
    f"{_tell_part(benchmark)}",
    "images": f"sha256 {contents[0]}",
    "ground truth": f"sha256 {benchmark.digest}",
    "weights": f"{weights.name} ({weights.network_name}, {len(encoder.settings.classes):,} classes), sha256 {weights.sha256}"
    f"{random}",
    "sizes": f"shorter side {size} where the paper has 720; other systems' sizes in proportion",
    "whitening": _tell_origin(encoder, benchmark, whitened_by, no_whitening, *contents),
    "preset": values["protocol"].value or "paper",
    "versions": f"cwf_jax {__version__}, jax {jax.__version__}, flax {flax.__version__}, numpy {numpy.__version__}, "
    f"Python {platform.python_version()}",
    "device": f"{device.platform}, {device.device_kind}, {encoder.settings.dtype}",
    "batch size": str(values["batch_size"].value or default_batch_size(encoder)),
  }
  return head | ({"remarks": "; ".join(remarks)} if remarks else {})


def _tell_origin(encoder, benchmark, whitened_by, no_whitening: str, own: str, content: str) -> str:
  """What the whitening was fitted on."""
  from cwf_jax.datasets.problems import count_of
  from cwf_jax.evaluation.experiment import BUNDLED
  from cwf_jax.evaluation.images import ImageSet

  if isinstance(whitened_by, ImageSet):
    itself = ": the evaluated set itself, as asked for" if whitened_by.name == benchmark.name else ""
    itself = itself or (": the same images as the evaluated set's" if content == own else "")
    return f"by {count_of(whitened_by.ids, 'image', 'images')} of {whitened_by.name}, sha256 {content}{itself}"
  if whitened_by == BUNDLED:
    return "none: the checkpoint has none" if encoder.whitening is None else "the checkpoint's own, of class vectors"
  return no_whitening or "none"


def _tell_part(benchmark) -> str:
  """Says so where only a part of a known set is there, as UKBench allows."""
  from cwf_jax.datasets.catalogue import KNOWN

  known = KNOWN.get(benchmark.name)
  if known is None or known.queries in (None, len(benchmark.queries)) or known.images is None:
    return ""
  return f": a part of {known.title}, which has {known.queries:,} queries; published values are of all of them"


def write_report(report, output: Path) -> None:
  """Writes every file, each in one step."""
  from cwf_jax.evaluation.report import format_report
  from cwf_jax.evaluation.results import format_queries, to_results
  from cwf_jax.writing import write_whole

  for place, one in enumerate(report.measured):
    if one.rows:
      name = "per_query.csv" if place == 0 else f"per_query_{one.name}.csv"
      write_whole(output / name, format_queries(one).encode())
  write_whole(output / "results.json", json.dumps(to_results(report), allow_nan=False, indent=1).encode())
  write_whole(output / "report.md", format_report(report).encode())


def tell(report, against) -> None:
  """The rows that were asked for, in short, and the comparison with another run."""
  from cwf_jax.evaluation.results import form_of, is_bare, tell_means

  for one in report.measured:
    rows = [row for row in one.rows if row.name not in one.kept]
    not_run = f"not run, {one.reason}" if one.reason else "no row was run"
    print(f"{one.title}: {' / '.join(map(one.label, one.main_metrics)) or not_run}")
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
      mark = " (not whitened)" if is_bare(row) else ""
      print(f"  {row.name:<{width}}  {tell_means(row, one.main_metrics) + mark if row.was_run else f'not run: {row.reason}'}")
  if against is not None:
    print(f"{against.title}: difference in {against.metric}, 95 % interval")
    width = max((len(found.name) for found in against.differences), default=0)
    form = form_of(against.metric)
    for found in against.differences:
      difference, low, high = found.interval
      print(f"  {found.name:<{width}}  {difference:+{form}}  {low:+{form}} to {high:+{form}}")
    for note in against.notes:
      print(f"  {note}")
