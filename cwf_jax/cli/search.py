"""`--mode=search`: a photograph, or many, against an index."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
from collections.abc import Iterator

from absl import flags

from cwf_jax.cli.call import CallError, FailedError, define_plugin, load_asked_plugin
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=search --index=my.index --query=tower.jpg
  python main.py --mode=search --index=my.index --query=tower.jpg --box=120,40,480,600 --expand=5
  python main.py --mode=search --index=my.index --query=tower.jpg --classes="bell cote, church"
  python main.py --mode=search --index=my.index --query=tower.jpg --figure=answers.png
  python main.py --mode=search --index=my.index --query=tower.jpg --min_places=20
  python main.py --mode=search --index=my.index --query=queries/ --format=json > answers.jsonl

A box is left,top,right,bottom in pixels of the upright image, right and bottom exclusive. Each
answer comes with reasons: how many places of the two photographs match in one consistent position
(they show the same thing), and which classes both show (the same kind of thing). JSON has the match
boxes, and each class's exact share of the score.
"""

_DECODED_AHEAD = 2


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  define_plugin(values)
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  text("query", None, "a photograph, a folder of them, or a list file (.txt, one path a line)", flag_values=values)
  text("box", None, "left,top,right,bottom in pixels: search for this part of the one query", flag_values=values)
  flags.DEFINE_enum(
    "aggregation", None, ["offline", "online", "fixed"], "whose classes describe an image: its own, the query's, or those of "
    "--classes. Default: offline, or fixed where --classes is given", flag_values=values,
  )  # fmt: skip
  text("classes", None, "names or ids, separated by commas: what the search is steered by", flag_values=values)
  flags.DEFINE_boolean(
    "partial", False, "changes nothing: online and fixed searches always use the classes that are stored. Kept so that old "
    "commands run", flag_values=values,
  )  # fmt: skip
  number("top", 10, "answers", lower_bound=1, flag_values=values)
  number("shares", 8, "JSON: number of classes whose shares each answer has", lower_bound=0, flag_values=values)
  number("expand", 0, "search again with the sum of the first N answers; 0: do not", lower_bound=0, flag_values=values)
  flags.DEFINE_boolean(
    "matches", None, "look for matching places: answers are read and encoded again. Default: in the table of one query",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_float("min_score", None, "leave out answers with a lower score", flag_values=values)
  number("min_places", None, "leave out answers with fewer matching places", flag_values=values)
  text("figure", None, "a contact sheet of the one query: a file that ends in .png, .jpg, .pdf or .svg", flag_values=values)
  flags.DEFINE_boolean("maps", False, "the contact sheet shows activation maps, too", flag_values=values)
  flags.DEFINE_enum("format", "table", ["table", "json"], "a table, or one JSON object a query, one a line", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: answers to standard output, as they are found."""
  load_asked_plugin(values)
  for flag in ("index", "query"):
    if not values[flag].value:
      raise CallError(f"--mode=search needs --{flag}=PATH; --mode=search --help shows examples")
  classes = values["classes"].value
  aggregation = values["aggregation"].value or ("offline" if classes is None else "fixed")
  arguments = {flag: values[flag].value for flag in ("top", "expand", "shares")}
  limits = {flag: values[flag].value for flag in ("min_score", "min_places")}

  from cwf_jax.cli.answers import format_answers
  from cwf_jax.cli.boxes import parse_box
  from cwf_jax.cli.encoders import agreeing_encoder
  from cwf_jax.index.store import open_index
  from cwf_jax.retrieval.answers import filter_results
  from cwf_jax.retrieval.searcher import QUERIES_AT_ONCE, Searcher, check_arguments, check_classes

  box = None if values["box"].value is None else parse_box(values["box"].value)
  check_classes(aggregation, classes)
  check_arguments(aggregation, **arguments, **limits)
  queries = _list_queries(values["query"].value)
  if queries.many and box is not None:
    raise CallError("--box is for one query; found a folder or a list of queries")
  figure = values["figure"].value
  if figure:
    if queries.many:
      raise CallError("--figure is for one query; found a folder or a list of queries")
    from cwf_jax.figures.files import check_figure_path

    check_figure_path(figure, [values["query"].value])
  index = open_index(values["index"].value)
  searcher = Searcher(index, agreeing_encoder(values, index))
  if classes is not None:
    searcher.encoder.settings.classes.resolve_all(classes)
  if index.settings.whitening.pending:
    console.say("note: the whitening of this index is not fitted yet; --mode=index finishes it")
  matched = values["matches"].value
  if matched is None:
    matched = not queries.many and (values["format"].value == "table" or bool(figure))
  matched = matched or limits["min_places"] is not None
  num_searched, lacking, unreadable = 0, [], []
  with console.progress("queries") as progress, contextlib.closing(_read(queries, progress)) as read:
    encoded = ((name, searcher.encode(pixels, box, classes)) for name, pixels in read)
    for some in iter(lambda: list(itertools.islice(encoded, QUERIES_AT_ONCE)), []):
      for name in (name for name, query in some if not query.class_vectors.any()):
        console.say(f"note: the network sees none of its classes in {name}: all scores are 0")
      answers = searcher.search([query for _, query in some], aggregation, **arguments)
      for (name, query), results in zip(some, answers, strict=True):
        results = filter_results(results, limits["min_score"])
        if matched:
          results = searcher.match(query, results)
          unreadable += [result.id for result in results if result.match is None]
          results = filter_results(results, min_places=limits["min_places"])
        if not results and values["format"].value == "json":
          console.say(f"note: nothing in this index is that similar to {printable(name)}")
        form = values["format"].value
        print(format_answers(form, name, query, results, searcher, aggregation=aggregation, matched=matched), flush=True)
      if aggregation != "offline":
        lacking.append(searcher.count_lacking([query for _, query in some]))
      num_searched += len(some)
  if any(part.images for part in lacking):
    images, classes = (max(numbers) for numbers in zip(*lacking, strict=True))
    console.say(
      f"note: {images} of {len(index)} images lack the vectors of up to {classes} of the classes asked for, and are described "
      "by the others; --mode=index with --store_classes=all stores every class"
    )
  if unreadable:
    console.say(
      f"note: photographs of answers cannot be read any more, such as {printable(unreadable[0])}; "
      "--mode=index brings the index up to date"
    )
  if figure:
    _draw(values, searcher, results, box, figure)
    console.say(f"figure: {printable(figure)}")
  for line in queries.skipped:
    console.say(f"skipped {printable(line)}")
  for remark in queries.remarks:
    console.say(remark)
  if not num_searched:
    raise FailedError(f"none of the queries in {values['query'].value} could be read")
  return 0


def _draw(values: flags.FlagValues, searcher, results: list, box, path: str) -> None:
  """The contact sheet of the one query."""
  from cwf_jax.figures.contact_sheet import draw_answers
  from cwf_jax.figures.files import save_figure

  count, note = len(searcher.index), searcher.encoder.settings.class_note
  title = f"{count} photograph{'' if count == 1 else 's'}, most similar first"
  notes = [f"Note: {note}."] if note else []
  sheet = draw_answers(
    searcher.encoder, values["query"].value, results, box=box, maps=values["maps"].value, title=title, notes=notes
  )
  save_figure(sheet, path)


@dataclasses.dataclass(frozen=True)
class _Queries:
  """What is searched for: (name, path) of each, whether they are of a folder or list, what was skipped and what left out."""

  files: list[tuple[str, str]]
  many: bool
  skipped: list[str]
  remarks: tuple[str, ...]


def _list_queries(source: str) -> _Queries:
  from cwf_jax.images.listing import find_any_form, is_list, list_images

  if not is_list(source):
    return _Queries([(source, find_any_form(source))], False, [], ())
  listing = list_images(source)
  skipped = [f"{name}: {reason}" for name, reason in listing.skipped]
  return _Queries([(name, listing.path(name)) for name in listing.ids], True, skipped, listing.remarks)


def _read(queries: _Queries, progress) -> Iterator[tuple[str, object]]:
  """The pixels of each query, decoded a little ahead; of many, those that cannot be read are left out."""
  from cwf_jax.images.decoding import UnreadableImageError, decode_image

  waiting: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    for place in range(len(queries.files)):
      while len(waiting) <= _DECODED_AHEAD and place + len(waiting) < len(queries.files):
        waiting.append(thread.submit(decode_image, queries.files[place + len(waiting)][1]))
      name = queries.files[place][0]
      try:
        yield name, waiting.popleft().result()
      except UnreadableImageError as error:
        if not queries.many:
          raise
        queries.skipped.append(f"{name}: {error.reason}")
      if queries.many:
        progress(place + 1, len(queries.files), len(queries.skipped))
