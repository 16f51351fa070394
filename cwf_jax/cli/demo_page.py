"""The demo's pictures, and the page that shows them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cwf_jax.cli.notes import program
from cwf_jax.datasets.landmarks import KINDS, QUERIES
from cwf_jax.evaluation.average_precision import mean_average_precision
from cwf_jax.evaluation.benchmark import Benchmark, Query
from cwf_jax.explanation import compare, explain
from cwf_jax.figures import page
from cwf_jax.figures.contact_sheet import draw_answers
from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import Panel, draw_panels
from cwf_jax.figures.reasons import draw_comparison, draw_explanation
from cwf_jax.images.decoding import decode_image
from cwf_jax.retrieval.searcher import Searcher
from cwf_jax.writing import write_if_changed

SHEET = "contact_sheet.jpg"
PICTURES = (SHEET, *(f"{name}.jpg" for name in ("best", "worst", "views", "explain", "pair")))
_SHOWN = "motorcycle_5"
"""The query of the first sheet: an object pasted into another scene, where only the box tells what is meant."""

_ANSWERS = 11


def write_page(
  output: Path,
  benchmark: Benchmark,
  searcher: Searcher,
  precisions: Mapping[str, np.ndarray],
  systems: Mapping[str, str],
  dimensions: Mapping[str, int],
) -> None:
  """Draws the pictures and writes `index.html`.

  Args:
    output: the demo's folder.
    benchmark: toy Oxford.
    searcher: of its index.
    precisions: [q] average precisions, by system.
    systems: each system in words.
    dimensions: of each system's descriptors.
  """
  note = searcher.encoder.settings.class_note
  notes = (f"Note: {note}.",) if note else ()
  queries = {query.name: query for query in benchmark.queries}
  order = np.argsort(-precisions["ofa"], kind="stable")
  chosen = {SHEET: queries[_SHOWN]}
  chosen |= {"best.jpg": benchmark.queries[order[0]], "worst.jpg": benchmark.queries[order[-1]]}
  captions = {}
  for file, query in chosen.items():
    best = _draw_sheet(output / file, query, benchmark, searcher, notes)
    value = precisions["ofa"][benchmark.queries.index(query)]
    captions[file] = f"{query.name}: average precision {value:.3f}"
    if file == SHEET:
      _draw_reasons(output, query, best, benchmark, searcher, notes)
  _draw_views(output / "views.jpg", benchmark, _SHOWN.rpartition("_")[0])
  parts = [page.paragraph(line, is_note=True) for line in notes] + _introduce(benchmark)
  parts += [page.heading("How good"), page.paragraph(_RESULTS), _table(benchmark, precisions, systems, dimensions)]
  parts += [page.heading("What is found, and why"), page.paragraph(_SHEETS)]
  parts += [
    page.picture(SHEET, captions[SHEET]),
    page.picture("best.jpg", f"The query that did best, {captions['best.jpg']}"),
    page.picture("worst.jpg", f"The query that did worst, {captions['worst.jpg']}"),
    page.heading("What the network recognizes"),
    page.picture("explain.jpg", f"The classes of the query {_SHOWN}, within its box"),
    page.picture("pair.jpg", "Why the query and its best answer besides itself are similar"),
    page.heading("Go on"),
    page.paragraph("Search a folder of your own:"),
    page.commands(
      [
        f"{program()} --mode=index --images=FOLDER --index=FOLDER.index",
        f"{program()} --mode=search --index=FOLDER.index --query=PHOTOGRAPH.jpg --figure=answers.png",
      ]
    ),
  ]
  write_if_changed(output / "index.html", page.make_page("cwf_jax: a demo that is a benchmark", parts).encode())


_RESULTS = (
  "Average precision is the area under the curve of precision over recall, 1 at best, as the Oxford Buildings benchmark "
  "counts it; junk is skipped, and the query's own picture is in the database and counts. All systems pool the same "
  "feature map at the same size. Whitening is fitted on toy Paris: on one vector an image for the pooled systems, which keep "
  "one dimension for every three vectors, and on the vectors of many classes for the class-weighted ones. How many "
  "dimensions are kept changes the order of systems that are as near to one another as these."
)
_SHEETS = (
  "Each sheet shows a query and its first answers, each with its reasons: how many places match, with a box around them, and "
  "the classes that both show. Frames: solid is relevant, dashed is not, dotted is junk."
)


def _introduce(benchmark: Benchmark) -> list[str]:
  scenes = len(benchmark.queries) // QUERIES
  return [
    page.paragraph(
      f"Toy Oxford holds {len(benchmark.listing.ids)} pictures: {scenes} landmarks, each seen in {len(KINDS)} ways, and "
      f"distractors. {len(benchmark.queries)} boxes are searched for. Its pictures, and those of toy Paris, are made from "
      "photographs that scikit-image and scikit-learn carry, and that are their authors'; no scene is in both."
    ),
    page.picture("views.jpg", f"One landmark of toy Oxford, in its {len(KINDS)} views"),
  ]


def _table(
  benchmark: Benchmark, precisions: Mapping[str, np.ndarray], systems: Mapping[str, str], dimensions: Mapping[str, int]
) -> str:
  """A row a system: the mean of all queries, and of each kind of view that is searched for."""
  kinds = np.asarray([int(query.name.rpartition("_")[2]) - 1 for query in benchmark.queries])
  head = ["system", "dimensions", "all", *KINDS[:QUERIES]]
  rows = []
  for name, words in systems.items():
    values = precisions[name]
    means = [values, *(values[kinds == kind] for kind in range(QUERIES))]
    rows.append([f"{name}: {words}", str(dimensions[name]), *(f"{mean_average_precision(some):.3f}" for some in means)])
  return page.table(head, rows)


def _draw_sheet(path: Path, query: Query, benchmark: Benchmark, searcher: Searcher, notes: tuple[str, ...]) -> str:
  """The sheet of an offline search; gives the best answer besides the query's own picture."""
  file = benchmark.listing.path(query.image)
  encoded = searcher.encode(file, query.box)
  results = searcher.match(encoded, searcher.search([encoded], top=_ANSWERS)[0])
  ids = benchmark.listing.ids
  metric, place = benchmark.metrics[0], benchmark.queries.index(query)
  relevance = {ids[row]: "relevant" for row in metric.positive[place] if row >= 0}
  relevance |= {ids[row]: "junk" for row in metric.junk[place] if row >= 0}
  title = f"{len(ids)} photographs, most similar first"
  sheet = draw_answers(searcher.encoder, file, results, box=query.box, relevance=relevance, title=title, notes=notes)
  save_figure(sheet, path)
  return next(result.path for result in results if result.path != file)


def _draw_reasons(
  output: Path, query: Query, other: str, benchmark: Benchmark, searcher: Searcher, notes: tuple[str, ...]
) -> None:
  file = benchmark.listing.path(query.image)
  explanation = explain(searcher.encoder, file, query.box, top=7)
  save_figure(draw_explanation(explanation, f"the box of {query.name}", notes), output / "explain.jpg")
  pair = compare(searcher.encoder, file, other, query.box)
  names = (f"{query.name}, in its box", Path(other).name)
  save_figure(draw_comparison(pair, names, notes), output / "pair.jpg")


def _draw_views(path: Path, benchmark: Benchmark, scene: str) -> None:
  panels = []
  for number, kind in enumerate(KINDS):
    image_id = f"{scene}_{number:03d}.jpg"
    panels.append(Panel(decode_image(benchmark.listing.path(image_id)), kind, image_id))
  save_figure(draw_panels(panels, 6, f"{scene}: the {len(panels)} views of one landmark"), path)
