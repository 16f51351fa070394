"""The demo's pictures, and the page that shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cwf_jax.cli.notes import program
from cwf_jax.datasets.benchmark import Benchmark, Query
from cwf_jax.figures import page
from cwf_jax.figures.contact_sheet import draw_answers
from cwf_jax.figures.files import save_figure
from cwf_jax.figures.panels import Panel, draw_panels
from cwf_jax.figures.reasons import draw_comparison, draw_explanation
from cwf_jax.files import write_if_changed
from cwf_jax.images.decoding import decode_image
from cwf_jax.queries import Query as EncodedQuery
from cwf_jax.retrieval.answers import Result
from cwf_jax.retrieval.explanation import compare, explain
from cwf_jax.retrieval.searcher import Searcher
from cwf_jax.toy.landmarks import KINDS, QUERIES

SHEET = "contact_sheet.jpg"
PICTURES = (SHEET, *(f"{name}.jpg" for name in ("best", "worst", "views", "explain", "pair")))
_SHOWN = "motorcycle_5"
"""The query of the first sheet: an object pasted into another scene, where only the box tells what is meant."""

_ANSWERS = 11
"""On a sheet: about as many as a query has relevant images."""


class _Search(NamedTuple):
  """A query, its first answers, and which images should be found."""

  query: Query
  encoded: EncodedQuery
  results: list[Result]
  relevance: Mapping[str, str]

  @property
  def relevant(self) -> int:
    """How many of the answers are."""
    return sum(self.relevance.get(result.id) == "relevant" for result in self.results)


def write_page(output: Path, benchmark: Benchmark, searcher: Searcher, lines: Sequence[str]) -> None:
  """Draws the pictures and writes `index.html`.

  Args:
    output: the demo's folder, which holds the evaluation's report.
    benchmark: toy Oxford.
    searcher: of its index.
    lines: that the evaluation printed.
  """
  note = searcher.encoder.settings.class_note
  notes = (f"Note: {note}.",) if note else ()
  searches = _search(benchmark, searcher)
  order = sorted(searches, key=lambda search: -search.relevant)
  shown = next(search for search in searches if search.query.name == _SHOWN)
  parts = [page.paragraph(line, is_note=True) for line in notes] + _introduce(benchmark)
  _draw_views(output / "views.jpg", benchmark, _SHOWN.rpartition("_")[0])
  parts += [page.heading("How good"), page.paragraph(_RESULTS), page.preformatted(lines)]
  parts += [page.link("report.md", "The evaluation's report: each query's value, settings, intervals")]
  parts += [page.heading("What is found, and why"), page.paragraph(_SHEETS)]
  for file, search, words in (
    (SHEET, shown, ""),
    ("best.jpg", order[0], "The query with most relevant answers, "),
    ("worst.jpg", order[-1], "The query with fewest, "),
  ):
    _draw_sheet(output / file, search, benchmark, searcher, notes)
    counted = f"{search.relevant} of the {len(search.results)} answers are relevant"
    parts.append(page.picture(file, f"{words}{search.query.name}: {counted}"))
  _draw_reasons(output, shown, benchmark, searcher, notes)
  parts += [
    page.heading("What the network recognizes"),
    page.picture("explain.jpg", f"The classes of the query {_SHOWN}, within its box"),
    page.picture("pair.jpg", "Why the query and its best answer besides itself are similar"),
    page.heading("Go on"),
    page.paragraph("Search a folder of your own:"),
    page.preformatted(
      [
        f"{program()} --mode=index --images=FOLDER --index=FOLDER.index",
        f"{program()} --mode=search --index=FOLDER.index --query=PHOTOGRAPH.jpg --figure=answers.png",
      ]
    ),
  ]
  write_if_changed(output / "index.html", page.make_page("cwf_jax: a demo that is a benchmark", parts).encode())


_RESULTS = (
  "Mean average precision (mAP) is 1 at best. It is computed as the Oxford Buildings benchmark does: junk is skipped, and the "
  "query's own picture is in the database and counts. raw sums the feature map, raw_cw weights its channels, ofa weights it by "
  "the classes of each image, and ona by those of the query. Those with +pca, ofa and ona are whitened by toy Paris."
)
_SHEETS = (
  "These are searches of an index that was made with the default settings. Each sheet shows a query and its first answers, "
  "each with its reasons: how many places match, with a box around them, and the classes that both show. Frames: solid is "
  "relevant, dashed is not, dotted is junk."
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


def _search(benchmark: Benchmark, searcher: Searcher) -> list[_Search]:
  """Searches for every query at once."""
  queries = [searcher.encode(benchmark.listing.path(query.image), query.box) for query in benchmark.queries]
  answers = searcher.search(queries, top=_ANSWERS)
  metric, ids, searches = benchmark.metrics[0], benchmark.database, []
  for query, encoded, results, *rows in zip(benchmark.queries, queries, answers, metric.positive, metric.junk, strict=True):
    truth = zip(("relevant", "junk"), rows, strict=True)
    relevance = {ids[row]: word for word, numbers in truth for row in numbers if row >= 0}
    searches.append(_Search(query, encoded, results, relevance))
  return searches


def _draw_sheet(path: Path, search: _Search, benchmark: Benchmark, searcher: Searcher, notes: tuple[str, ...]) -> None:
  sheet = draw_answers(
    searcher.encoder,
    benchmark.listing.path(search.query.image),
    searcher.match(search.encoded, search.results),
    box=search.query.box,
    relevance=search.relevance,
    title=f"{len(benchmark.database)} photographs, most similar first",
    notes=notes,
  )
  save_figure(sheet, path)


def _draw_reasons(output: Path, search: _Search, benchmark: Benchmark, searcher: Searcher, notes: tuple[str, ...]) -> None:
  query = search.query
  file = benchmark.listing.path(query.image)
  other = next(result.path for result in search.results if result.path != file)
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
