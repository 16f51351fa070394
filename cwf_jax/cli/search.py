"""`--mode=search`: a photograph, or many, against an index."""

import dataclasses
import json

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.notes import RANDOM_NOTE

EXAMPLES = """
  python main.py --mode=search --index=photographs.index --query=tower.jpg
  python main.py --mode=search --index=photographs.index --query=tower.jpg --box=120,40,480,600 --expand=5
  python main.py --mode=search --index=photographs.index --query=queries/ --top=3 --format=json > answers.jsonl
  python main.py --mode=search --index=all.index --query=tower.jpg --aggregation=fixed --classes="bell cote, dome, church"

A box is left,top,right,bottom in pixels of the upright image, right and bottom exclusive. The table names the classes
that made each score, with their shares; the shares add up to the score.
"""

_QUERIES_AT_ONCE = 64


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  text("query", None, "a photograph, a folder of them, or a list file (.txt, one path a line)", flag_values=values)
  text("box", None, "left,top,right,bottom in pixels: search for this part of the one query", flag_values=values)
  flags.DEFINE_enum(
    "aggregation", None, ["offline", "online", "fixed"], "whose classes describe an image: its own, the query's, or those of "
    "--classes. Default: offline, or fixed where --classes is given", flag_values=values,
  )  # fmt: skip
  text("classes", None, "names or ids, separated by commas: what the search is steered by", flag_values=values)
  flags.DEFINE_boolean("partial", False, "describe images that lack some of the classes by those they have", flag_values=values)
  number("top", 10, "answers", lower_bound=1, flag_values=values)
  number("shares", 8, "classes named for each answer in JSON (the table names the first three)", 0, flag_values=values)
  number("expand", 0, "search again with the sum of the first N answers", lower_bound=0, flag_values=values)
  flags.DEFINE_enum("format", "table", ["table", "json"], "a table, or one JSON object a query, one a line", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: answers to standard output, as they are found."""
  for flag in ("index", "query"):
    if not values[flag].value:
      raise CallError(f"--mode=search needs --{flag}=PATH; --mode=search --help shows examples")
  box = None if values["box"].value is None else parse_box(values["box"].value)
  classes = values["classes"].value
  aggregation = values["aggregation"].value or ("offline" if classes is None else "fixed")

  from cwf_jax.cli.encoders import check_flags
  from cwf_jax.images.decoding import UnreadableImageError
  from cwf_jax.images.listing import is_list, list_images
  from cwf_jax.index.store import open_index
  from cwf_jax.retrieval.searcher import Searcher, check_classes

  check_classes(aggregation, classes)
  source = values["query"].value
  many = is_list(source)
  if many and box is not None:
    raise CallError("--box is for one query; found a folder or a list of queries")
  listing = list_images(source) if many else None
  index = open_index(values["index"].value)
  check_flags(values, index)
  searcher = Searcher(index)
  if classes is not None:
    searcher.encoder.settings.classes.resolve_all(classes)
  settings = index.settings
  if settings.is_random:
    console.say(f"note: {RANDOM_NOTE}")
  if settings.whitening.pending:
    console.say("note: the whitening of this index is not fitted yet; --mode=index finishes it")
  queries = [(name, listing.path(name)) for name in listing.ids] if many else [(source, source)]
  skipped = [f"{name}: {reason}" for name, reason in listing.skipped] if many else []
  waiting, found = [], 0
  show = _Printer(values["format"].value, settings)
  with console.progress("queries") as progress:
    for place, (name, path) in enumerate(queries, 1):
      try:
        waiting.append((name, searcher.encode(path, box, classes)))
      except UnreadableImageError as error:
        if not many:
          raise
        skipped.append(f"{name}: {error.reason}")
      if waiting and (len(waiting) == _QUERIES_AT_ONCE or place == len(queries)):
        answers = searcher.search(
          [query for _, query in waiting],
          aggregation,
          **{flag: values[flag].value for flag in ("top", "expand", "partial", "shares")},
        )
        for (waited, _), results in zip(waiting, answers, strict=True):
          show(waited, results)
        found += len(waiting)
        waiting = []
      if many:
        progress(place, len(queries), len(skipped))
  for line in skipped:
    console.say(f"skipped {line}")
  return 0 if found else 1


def parse_box(text: str) -> tuple[float, float, float, float]:
  """Reads `--box`."""
  try:
    left, top, right, bottom = (float(side) for side in text.split(","))
  except ValueError:
    raise CallError(f"--box is four numbers, left,top,right,bottom; found {text!r}") from None
  return left, top, right, bottom


@dataclasses.dataclass
class _Printer:
  format: str
  settings: object

  def __call__(self, query: str, results: list) -> None:
    if self.format == "json":
      found = {"query": query, "results": [result.to_json() for result in results]}
      if self.settings.is_random:
        found |= {"weights": self.settings.weights, "note": RANDOM_NOTE}
      print(json.dumps(found), flush=True)
    else:
      print(format_table(query, results, self.settings.is_random), flush=True)


def format_table(query: str, results: list, is_random: bool) -> str:
  """Answers as aligned columns: rank, score, id, and the parts of the score."""
  expanded = any(result.expanded_from for result in results)
  reason = "made by the images it was expanded with" if expanded else "classes that made the score"
  if is_random and not expanded:
    reason += " (random weights: the names mean nothing)"
  rows = [("rank", "score", "image", reason)]
  for result in results:
    parts = [part for part in result.expanded_from or result.classes if not part.name.startswith("(other")][:3]
    told = ", ".join(f"{part.name} {part.share:.4f}" for part in parts)
    if result.lacked:
      told += f"; lacks {result.lacked} classes"
    rows.append((str(result.rank), f"{result.score:.4f}", _printable(result.id), told))
  widths = [max(len(row[column]) for row in rows) for column in range(3)]
  lines = [
    f"{row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}".rstrip() for row in rows
  ]
  return "\n".join([f"query {_printable(query)}", *lines, ""])


def _printable(text: str) -> str:
  shown = text.encode("utf-8", "backslashreplace").decode()
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
