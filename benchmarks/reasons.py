"""Do the reasons of an answer distinguish right answers from wrong ones?

  python benchmarks/reasons.py --groceries grocery --ukbench ukbench --oxford oxford_mini
  python benchmarks/reasons.py --toy       # how well does the match box cover the object? On the toy landmarks
  python benchmarks/reasons.py --smoke     # random weights on made-up images, to see that it runs

The first answers of class-weighted offline search with the default network: 20 for every query of a part of Oxford
Buildings (with its box) and every 6th query of the groceries, 10 for every 5th image of UKBench's first 500. The query's own
image and Oxford's junk do not count. A folder holds images/ and, but for UKBench, gt.json.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from default_network import make_smoke

from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.encoder import Encoder, most_probable
from cwf_jax.images.decoding import read_size
from cwf_jax.images.listing import Listing
from cwf_jax.images.loading import fill_batches
from cwf_jax.images.sources import load_source, open_images
from cwf_jax.load import load_encoder
from cwf_jax.ops.matching import describe_cells, locate_cells, match_cells
from cwf_jax.protocol import CELL, Box
from cwf_jax.queries import encode_query
from cwf_jax.retrieval.reasons import PLACES_IN_WORDS, describe_query_cells, find_common_classes, match_photographs
from cwf_jax.toy.landmarks import BOXES, TOY_OXFORD, write_landmarks

LEAST = {"places": (6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40), "scores": (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)}
"""Numbers of places, and scores, from which on the share of right answers is printed."""

PERCENTILES = (5, 25, 50, 75, 95)


class Photograph(NamedTuple):
  """An encoded image: its descriptor [d], probabilities of all classes [c] and cells [n d] at positions [n 2]."""

  descriptor: np.ndarray
  probabilities: np.ndarray
  cells: np.ndarray
  positions: np.ndarray


class Query(NamedTuple):
  """A query, and the ids of the images that are right and of those that do not count."""

  image: str
  box: Box | None
  relevant: frozenset[str]
  junk: frozenset[str]


class Evidence(NamedTuple):
  """What speaks for each of n answers."""

  right: np.ndarray
  scores: np.ndarray
  places: np.ndarray
  num_common: np.ndarray
  best_common: np.ndarray


def main(arguments: list[str] | None = None) -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--weights", default="default")
  for name in ("groceries", "ukbench", "oxford"):
    parser.add_argument(f"--{name}", type=Path, help="a folder with images/, and gt.json but for UKBench")
  parser.add_argument("--toy", action="store_true", help="match boxes on the toy landmarks, in place of the three sets")
  parser.add_argument("--smoke", action="store_true", help="a tiny size")
  options = parser.parse_args(arguments)
  with tempfile.TemporaryDirectory() as folder:
    if options.smoke:
      make_smoke(options, Path(folder))
    encoder = load_encoder(options.weights, image_size=4 * CELL if options.smoke else None)
    if options.toy:
      measure_boxes(encoder, Path(folder))
    else:
      measure_reasons(encoder, options)


def measure_reasons(encoder: Encoder, options: argparse.Namespace) -> None:
  """Gathers the evidence of the three sets and prints it."""
  sets = {
    "Oxford": gather_evidence(encoder, options.oxford, every=1, num_answers=20),
    "UKBench": gather_evidence(encoder, options.ukbench, every=5, num_answers=10),
    "groceries": gather_evidence(encoder, options.groceries, every=6, num_answers=20),
  }
  print_evidence(sets)
  for name, thresholds in LEAST.items():
    print_precision(sets, name, thresholds)


def gather_evidence(encoder: Encoder, folder: Path, every: int, num_answers: int) -> Evidence:
  """The evidence of the first answers of every `every`-th query."""
  images = open_images(folder / "images")
  database, queries = list_queries(folder, images.ids)
  photographs = dict(encode_photographs(encoder, images, database))
  descriptors, rows = np.stack([photographs[image_id].descriptor for image_id in database]), []
  for query in queries[::every]:
    encoded = encode_one_query(encoder, images.path(query.image), query.box)
    scores = descriptors @ encoded.descriptor
    left_out = query.junk | {query.image}
    answers = [place for place in np.argsort(-scores, kind="stable") if database[place] not in left_out][:num_answers]
    answered = [photographs[database[place]] for place in answers]
    common = [find_common(encoder, encoded, answer) for answer in answered]
    rows += zip(
      (database[place] in query.relevant for place in answers),
      scores[answers],
      count_places(encoded, answered, num_answers),
      map(len, common),
      (min(classes[0].query_probability, classes[0].answer_probability) if classes else 0.0 for classes in common),
      strict=True,
    )
  return Evidence(*map(np.asarray, zip(*rows, strict=True)))


def encode_photographs(encoder: Encoder, images: Listing, image_ids: Sequence[str]) -> Iterator[tuple[str, Photograph]]:
  """(id, photograph) of images; cells in half precision."""
  for batch in fill_batches(load_source(images, image_ids, encoder.settings.protocol, threads=2, ahead=16), 2, []):
    arrays = jax.device_get(encode(encoder, batch.images, batch.sizes))
    positions = list_positions(encoder, batch.images.shape[1:3])
    for file, descriptor, probabilities, cells in zip(batch.files, *arrays, strict=False):
      yield file.id, Photograph(descriptor, probabilities, pad_rows(encoder, cells.astype(np.float16)), positions)


def encode_one_query(encoder: Encoder, path: str, box: Box | None) -> Photograph:
  """A query: its descriptor, its probabilities, and the cells that are compared."""
  query = encode_query(encoder, path, box and tuple(box))
  cells = pad_rows(encoder, describe_query_cells(encoder, query))
  descriptor = np.asarray(encoder.describe(query.class_vectors[None]))[0]
  return Photograph(descriptor, query.probabilities, cells, list_positions(encoder, query.photograph.whole.canvas))


def list_positions(encoder: Encoder, canvas: tuple[int, int]) -> np.ndarray:
  """(column, row) of a canvas's cells, padded."""
  return pad_rows(encoder, locate_cells(tuple(side // CELL for side in canvas)))


def pad_rows(encoder: Encoder, array: np.ndarray | jax.Array) -> np.ndarray:
  """Appends rows of zeros, up to the cells of the largest canvas."""
  length = max(height * width for height, width in encoder.settings.protocol.canvases) // CELL**2
  return np.pad(array, ((0, length - len(array)), (0, 0)))


@jax.jit
def encode(encoder: Encoder, images, sizes):
  """Descriptors [b d], probabilities [b c] and cells [b n d]."""
  activations = encoder.activate(images, sizes)
  class_ids = most_probable(activations, encoder.settings.protocol.num_classes)
  descriptors = encoder.describe(encoder.pool_classes(activations, class_ids))
  cells = describe_cells(activations.features, encoder.cell_whitening, activations.mask)
  return descriptors, activations.probabilities, cells.reshape(len(cells), -1, cells.shape[-1])


def list_queries(folder: Path, image_ids: Sequence[str]) -> tuple[Sequence[str], list[Query]]:
  """The ids of the database and the queries; without gt.json each four images show one object (UKBench)."""
  if not (folder / "gt.json").exists():
    groups = [frozenset(image_ids[place - place % 4 :][:4]) for place in range(len(image_ids))]
    return image_ids, [Query(image_id, None, group, frozenset()) for image_id, group in zip(image_ids, groups, strict=True)]
  truth = json.loads((folder / "gt.json").read_text(encoding="utf-8"))
  return truth["database"], [
    Query(entry.get("image", name), entry.get("box"), *(frozenset(entry.get(kind, ())) for kind in ("relevant", "junk")))
    for name, entry in truth["queries"].items()
  ]


def find_common(encoder: Encoder, query: Photograph, answer: Photograph):
  """The classes that both show."""
  class_ids = np.arange(len(answer.probabilities))
  return find_common_classes(encoder.settings.classes.names, query.probabilities, class_ids, answer.probabilities)


def count_places(query: Photograph, answers: Sequence[Photograph], count: int) -> np.ndarray:
  """The matching places of each of at most `count` answers."""
  padded = [*answers, *[query] * (count - len(answers))]
  cells, positions = (np.stack([getattr(answer, name) for answer in padded]) for name in ("cells", "positions"))
  return np.asarray(match(query.cells, query.positions, cells, positions))[: len(answers)]


@jax.jit
def match(query_cells, query_positions, cells, positions):
  """Places [b]."""
  query_cells, cells = (jnp.asarray(values, jnp.float32) for values in (query_cells, cells))
  return match_cells(query_cells, query_positions, cells, positions).places


def print_evidence(sets: dict[str, Evidence]) -> None:
  """Prints right answers beside wrong ones: percentiles, and the area under the ROC curve."""
  for name, evidence in sets.items():
    right = evidence.right
    print(f"{name}: {right.sum()} right answers, {(~right).sum()} wrong; right / wrong (area under the ROC curve)")
    for title, values in (("places", evidence.places), ("score", evidence.scores)):
      shown = [np.percentile(values[chosen], PERCENTILES) for chosen in (right, ~right) if chosen.any()]
      percentiles = " / ".join(" ".join(f"{value:.3g}" for value in values) for values in shown)
      print(f"  {title}, percentiles {' '.join(map(str, PERCENTILES))}: {percentiles} ({area_under_curve(values, right):.3f})")
    shares = " / ".join(f"{(evidence.num_common[chosen] > 0).mean():.2f}" for chosen in (right, ~right) if chosen.any())
    print(f"  at least one common class: {shares} ({area_under_curve(evidence.num_common > 0, right):.3f})")
    print(f"  the best common class's probability: ({area_under_curve(evidence.best_common, right):.3f})")


def area_under_curve(values: np.ndarray, right: np.ndarray) -> float:
  """The share of pairs of a right and a wrong answer in which the right one has the larger value; ties count half."""
  ones, others = values[right].astype(float), np.sort(values[~right].astype(float))
  if not len(ones) or not len(others):
    return float("nan")
  below, up_to = (np.searchsorted(others, ones, side) for side in ("left", "right"))
  return float((below + up_to).mean() / 2 / len(others))


def print_precision(sets: dict[str, Evidence], name: str, thresholds: Sequence[float]) -> None:
  """Prints, for the answers from each threshold on, the share that is right, and their shares of all right and wrong ones."""
  print(f"{name} from a threshold on: the share that is right (these of all right answers, of all wrong ones)")
  print(f"{name}  {''.join(f'{title:>22}' for title in sets)}{'mean of sets':>22}")
  for least in thresholds:
    shares = []
    for evidence in sets.values():
      enough, right = getattr(evidence, name) >= least, evidence.right
      shares.append((right[enough].mean() if enough.any() else np.nan, enough[right].mean(), enough[~right].mean()))
    rows = [f"{share:.3f} ({ones:.2f}, {others:.2f})" for share, ones, others in (*shares, np.mean(shares, axis=0))]
    print(f"{least:6}  {''.join(f'{row:>22}' for row in rows)}")


def measure_boxes(encoder: Encoder, folder: Path) -> None:
  """Prints how far match boxes overlap the objects of the toy landmarks."""
  write_landmarks(folder, TOY_OXFORD)
  boxes = json.loads((folder / "groundtruth" / BOXES).read_text(encoding="utf-8"))
  rows, least = [], PLACES_IN_WORDS[-1][0]
  queries = read_groundtruth(folder / "groundtruth")
  for query in queries:
    landmark = query.name.rpartition("_")[0]  # where it is pasted into, the box is around another landmark
    names = [name for name in query.positives if name != query.image and name.rpartition("_")[0] == landmark]
    paths = [folder / "images" / f"{name}.jpg" for name in names]
    encoded = encode_query(encoder, folder / "images" / f"{query.image}.jpg", query.box)
    for name, path, result in zip(names, paths, match_photographs(encoder, encoded, paths), strict=True):
      enough = result.places >= least
      rows.append([overlap(box, boxes[name]) for box in list_boxes(result.answer_box, path)] if enough else None)
  enough = np.array([row for row in rows if row is not None])
  print(f"{len(queries)} queries, {len(rows)} relevant answers, {len(enough)} with at least {least} places")
  print("intersection over union with the object's box, mean (median)")
  for title, values in zip(("match box", "whole image", "centered box of its size"), enough.T, strict=True):
    print(f"  {title:25} {values.mean():.3f} ({np.median(values):.3f})")


def list_boxes(box: Box, path: Path) -> list[Box]:
  """The match box, the whole image and a box of the match box's size at the center."""
  height, width = read_size(path)
  across, down = box[2] - box[0], box[3] - box[1]
  left, top = (width - across) / 2, (height - down) / 2
  return [box, (0, 0, width, height), (left, top, left + across, top + down)]


def overlap(box: Box, other: Box) -> float:
  """Intersection over union."""
  sides = [min(box[side + 2], other[side + 2]) - max(box[side], other[side]) for side in (0, 1)]
  shared = max(sides[0], 0) * max(sides[1], 0)
  areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (box, other)]
  return shared / (sum(areas) - shared)


if __name__ == "__main__":
  main()
