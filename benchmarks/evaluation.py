"""How long does an evaluation take besides the forward passes?

    python benchmarks/evaluation.py            # Oxford5k's and Paris6k's sizes, 4 GB of random vectors in a temporary folder
    python benchmarks/evaluation.py --smoke    # seconds; for the tests

Writes random vectors of the real sizes where passes would have put them, and makes every row of the table from them: whitening
fitted on 6,392 images, 55 queries over 5,063 images, average precision. The queries' classes are 64 each, out of `--classes`:
online aggregation needs the vectors of all of them, and queries that are all buildings share many.

Then the average precision of 70 queries over 1,001,001 images from scores alone, 500 images listed for each, for random
scores and for scores that are all equal; beside it scikit-learn's (another definition, by steps in place of trapezoids), of
fewer queries.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import numpy as np

SIZES = {"images": 5063, "pool": 6392, "queries": 55, "scored": 1_001_001, "revisited": 70, "network": "vgg16_cam"}
SMOKE = {"images": 24, "pool": 40, "queries": 3, "scored": 1000, "revisited": 4, "network": "vgg16_cam_quarter"}


def main(arguments: list[str] | None = None) -> None:
  """Times both."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--classes", type=int, default=400, help="classes that the queries' are among")
  parser.add_argument("--runs", type=int, default=3, help="of the average precision")
  parser.add_argument("--smoke", action="store_true", help="tiny sizes")
  options = parser.parse_args(arguments)
  sizes = SMOKE if options.smoke else SIZES
  with tempfile.TemporaryDirectory() as folder:
    time_rows(pathlib.Path(folder), sizes, options.classes)
  time_average_precision(sizes, options.runs)


def time_rows(folder: pathlib.Path, sizes: dict, num_classes: int) -> None:
  """Fills a folder as passes would, and times the rows."""
  from cwf_jax.datasets.benchmark import Benchmark, Metric, Query
  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.extraction.passes import IDS
  from cwf_jax.extraction.seeing import SeenImages, SeenQueries, listed_classes, own_classes
  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.images.listing import list_images
  from cwf_jax.load import load_encoder
  from cwf_jax.metrics.average_precision import average_precisions
  from cwf_jax.ops.grid import REGIONS
  from cwf_jax.systems.settings import Settings
  from cwf_jax.systems.system import SYSTEMS

  generator = np.random.default_rng(0)
  settings, encoder = Settings.preset("paper"), load_encoder(f"random:{sizes['network']}")
  sets = {}
  for name in ("images", "pool"):
    (folder / name).mkdir()
    for number in range(sizes[name]):
      (folder / name / f"{number:05d}.jpg").touch()
    sets[name] = list_images(folder / name)
  queries = tuple(Query(f"q{n}", sets["images"].ids[n], (0.0, 0.0, 64.0, 64.0)) for n in range(sizes["queries"]))
  listed = np.asarray([generator.permutation(sizes["images"])[:20] for _ in queries])
  metric = Metric("mAP", listed[:, :10], listed[:, 10:], average_precisions)
  benchmark = Benchmark("random", sets["images"], sets["images"].ids, queries, (metric,))
  pool = ImageSet("pool", sets["pool"], sets["pool"].ids)
  own = own_classes(encoder, settings)
  among = generator.permutation(len(encoder.settings.classes))[: max(num_classes, own.count)]
  config, vectors, names = encoder.network.config, folder / "results/vectors", tuple(SYSTEMS)

  def draw(column, count: int) -> dict[str, np.ndarray]:
    rows = len(column.listed) or column.count or (REGIONS if column.system == "rmac" else 1)
    found = generator.standard_normal((count, rows, config.feature_channels), np.float32) ** 2
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    drawn = {column.name: found.astype(np.float16) if rows > 1 else found}
    if column.count:
      drawn[column.name + IDS] = np.stack([generator.permutation(among)[: column.count] for _ in range(count)])
    return drawn

  def fill(seen, signatures, columns) -> None:
    for protocol, some in seen.plan(names, columns).items():
      for start in range(0, len(signatures), 64):
        ids = list(signatures)[start : start + 64]
        drawn = {key: rows for column in some for key, rows in draw(column, len(ids)).items()}
        seen.store(protocol).add(ids, [signatures[name] for name in ids], drawn)
      seen.store(protocol).flush()

  started = time.perf_counter()
  seen = SeenQueries(benchmark, encoder, settings, vectors)
  fill(seen, seen.signatures, (own, listed_classes(encoder, settings, None)))
  wanted = np.unique(seen.read("ofa", own.name + IDS)[:, : settings.num_classes])
  images = ImageSet("random", sets["images"], benchmark.images)
  for some, columns in ((images, (own, listed_classes(encoder, settings, wanted))), (pool, (own,))):
    fill(SeenImages(some, encoder, settings, vectors), some.signatures, columns)
  print(f"random vectors in {time.perf_counter() - started:.1f} s", file=sys.stderr)
  experiment = Experiment(benchmark, encoder, settings, folder / "results", whitened_by=pool)
  started = time.perf_counter()
  rows = list(experiment.make_rows(names))
  total = time.perf_counter() - started
  assert not [part for part in experiment.seconds if part != "rows"], "a pass was made"
  told = f"{len(queries)} queries over {len(benchmark.database)} images, whitened by {len(pool.ids)}"
  print(f"{len(rows)} rows, {told}: {total:.1f} s")
  print("  " + ", ".join(f"{row.name} {row.seconds:.1f}" for row in rows))
  print(f"  online among {len(wanted)} classes")


def time_average_precision(sizes: dict, runs: int) -> None:
  """From scores to average precision."""
  from sklearn.metrics import average_precision_score

  from cwf_jax.metrics.average_precision import average_precisions
  from cwf_jax.metrics.ranks import find_places, shuffled_order

  generator = np.random.default_rng(0)
  queries, count = sizes["revisited"], sizes["scored"]
  scores = generator.standard_normal((queries, count), np.float32)
  listed = np.stack([generator.permutation(count)[:500] for _ in range(queries)])
  order = shuffled_order(count)
  for name, given in (("random", scores), ("equal", np.zeros_like(scores))):
    seconds = []
    for _ in range(runs):
      started = time.perf_counter()
      places = find_places(given, listed, order)
      average_precisions(places[:, :300], places[:, 300:])
      seconds.append(time.perf_counter() - started)
    spread = f"{min(seconds):.2f} .. {max(seconds):.2f}"
    print(f"average precision, {queries} queries over {count:,} images, {name} scores: {np.median(seconds):.2f} s ({spread})")
  truth = np.zeros(count, bool)
  truth[listed[0, :300]] = True
  started = time.perf_counter()
  for row in scores[:3]:
    average_precision_score(truth, row)
  per_query = (time.perf_counter() - started) / 3
  print(f"  scikit-learn's, one query after another: {per_query:.2f} s a query, {per_query * queries:.1f} s for all")


if __name__ == "__main__":
  main()
