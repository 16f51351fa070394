"""Small breakages of the package, each of which a user would notice, and the tests that catch them: `make mutants`.

    python tests/mutants.py                        # every mutant; exit 1 if one survives
    python tests/mutants.py --only ranking --jobs 4
    python tests/mutants.py --list

A mutant replaces one text of one file in a temporary copy of the checkout and runs the tests named beside it there, until the
first one fails. The text occurs exactly once in the file: whoever moves or renames it changes the mutant in the same commit.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
IGNORED = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "demo-output", "*.egg-info", ".pytest_cache", ".ruff_cache")
SECONDS = 600
"""Time limit of one mutant's tests; one that takes longer counts as caught."""


class Mutant(NamedTuple):
  """A breakage.

  Attributes:
    name: of the concept, starting with its part of the package.
    harm: what a user would notice.
    file: under `cwf_jax`.
    old: a text that occurs once in the file.
    new: what replaces it.
    tests: files or node ids under `tests`, separated by spaces.
  """

  name: str
  harm: str
  file: str
  old: str
  new: str
  tests: str


MUTANTS = (
  # ops
  Mutant(
    *("cams: no relu", "cells that speak against a class count negatively", "ops/cams.py"),
    *("jax.nn.relu(jnp.where(inside[..., None], maps, 0.0))", "jnp.where(inside[..., None], maps, 0.0)"),
    "ops/test_cams.py",
  ),
  Mutant(
    *("normalize: zero row", "an image without classes has NaN for its scores", "ops/normalize.py"),
    *("jnp.where(largest > 0, squared, 1.0)", "squared"),
    "ops/test_normalize.py",
  ),
  Mutant(
    *("attribution: no length", "shares of the classes do not add up to the score", "ops/attribution.py"),
    *("shares / length[:, None, None]", "shares"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("aggregation: every class", "online search sums all stored classes, not the query's", "ops/aggregation.py"),
    *("matches.astype(class_vectors.dtype)", "jnp.ones_like(matches, class_vectors.dtype)"),
    "ops/test_aggregation.py",
  ),
  Mutant(
    *("weighting: no mask", "channel weights count the padding", "ops/weighting.py"),
    *("(features > 0) & mask[..., None]", "features > 0"),
    "ops/test_weighting.py",
  ),
  Mutant(
    *("quantization: steps", "the largest value of a stored vector turns negative", "ops/quantization.py"),
    *("axis=-1) / 127", "axis=-1) / 128"),
    "ops/test_quantization.py",
  ),
  Mutant(
    *("grid: one region fewer", "R-MAC's regions do not reach the end of a map", "ops/grid.py"),
    *("jnp.maximum(counts - 1, 1)", "counts"),
    "ops/test_grid.py",
  ),
  Mutant(
    *("axes: size", "arrays that do not fit are broadcast", "ops/axes.py"),
    *("if size != before:", "if size < before:"),
    "ops/test_axes.py",
  ),
  Mutant(
    *("resizing: valid edge", "padding leaks into the last row of a finer map", "ops/resizing.py"),
    *("jnp.maximum(valid, 1)[:, None] - 1", "0 * valid[:, None] + maps.shape[axis] - 1"),
    "ops/test_resizing.py",
  ),
  Mutant(
    *("matching: rotation", "photographs are turned the other way", "ops/matching.py"),
    *("[[cosines, -sines], [sines, cosines]]", "[[cosines, sines], [-sines, cosines]]"),
    "ops/test_matching.py",
  ),
  Mutant(
    *("pooling: GeM's floor", "gradients of GeM are not finite where a channel is silent", "ops/pooling.py"),
    *("jnp.maximum(_keep(features, mask), GEM_FLOOR)", "_keep(features, mask)"),
    "ops/test_pooling_max.py",
  ),
  Mutant(
    *("pooling: R-MAC's regions", "regions with large values outweigh the others", "ops/pooling.py"),
    *("l2_normalize(jnp.where(found == lowest, 0.0, found))", "jnp.where(found == lowest, 0.0, found)"),
    "ops/test_pooling_regions.py",
  ),
  Mutant(
    *("pooling: channel weights", "class vectors are not weighted by channel", "ops/pooling.py"),
    *("l2_normalize(pooled * channel_weights[:, None, :])", "l2_normalize(pooled)"),
    "ops/test_pooling.py",
  ),
  Mutant(
    *("pooling: weights of a box", "a region has the channel weights of the whole image", "ops/pooling.py"),
    *("compute_channel_weights(features, cut), cut)", "compute_channel_weights(features, mask), cut)"),
    "ops/test_pooling_regions.py",
  ),
  Mutant(
    *("ranking: NaN", "a damaged vector is the best answer", "ops/ranking.py"),
    *("jnp.where(jnp.isnan(scores), -jnp.inf, scores)", "scores"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("ranking: padding", "an answer that is no row of the database", "ops/ranking.py"),
    *("jnp.arange(len(padded)) < valid", "jnp.arange(len(padded)) <= valid"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("ranking: ties of blocks", "equal images change places from block to block", "ops/ranking.py"),
    *("zip(*rankings, strict=True)", "zip(*rankings[::-1], strict=True)"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("ranking: expansion without query", "an expanded query forgets itself", "ops/ranking.py"),
    *("total if queries is None else total + queries", "total"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("whitening: floor", "directions without variance are blown up into noise", "ops/whitening.py"),
    *("max(floor * largest, _LEAST_EIGENVALUE)", "_LEAST_EIGENVALUE"),
    "ops/test_whitening.py",
  ),
  Mutant(
    *("whitening: order", "fewer dimensions are those of least variance", "ops/whitening.py"),
    *("eigenvalues[::-1][:dimensions], eigenvectors[:, ::-1]", "eigenvalues[:dimensions], eigenvectors[:, ::1]"),
    "ops/test_whitening.py",
  ),
  Mutant(
    *("whitening: zero vector", "a class without a vector counts as the mean", "ops/whitening.py"),
    *("jnp.where(present, whitened, 0.0)", "whitened"),
    "ops/test_whitening.py",
  ),
  Mutant(
    *("regions: threshold", "a constant map has no region, or a larger one", "ops/regions.py"),
    *("values > limits if strict", "values >= limits if strict"),
    "ops/test_regions.py",
  ),
  Mutant(
    *("regions: corner", "left and top of a box are exchanged", "ops/regions.py"),
    *("jnp.stack([columns.argmax(1), rows.argmax(1),", "jnp.stack([rows.argmax(1), columns.argmax(1),"),
    "ops/test_regions.py",
  ),
  # encoder, protocol and queries
  Mutant(
    *("encoder: cut", "maps and vectors of a box are those of the whole image", "encoder.py"),
    *("else activations.mask & cut", "else activations.mask"),
    "test_encoder.py",
  ),
  Mutant(
    *("protocol: box", "the last column of a query's box is cut off", "protocol.py"),
    *("math.ceil(right * resized[1] / across)", "math.floor(right * resized[1] / across)"),
    "test_protocol.py",
  ),
  Mutant(
    *("protocol: fingerprint", "an index is searched with another number of classes", "protocol.py"),
    *('"num_classes": protocol.num_classes,', ""),
    "test_protocol.py",
  ),
  Mutant(
    *("queries: classes of a box", "a query's classes are those around its box", "queries.py"),
    *("stack([photograph.crop], photograph.crop.canvas, 1)", "(images, sizes)"),
    "retrieval/test_queries.py",
  ),
  Mutant(
    *("queries: cells of a box", "a query's box is ignored", "queries.py"),
    *("np.asarray([photograph.cells], np.int32)", "np.asarray([[0, 0, 9999, 9999]], np.int32)"),
    "retrieval/test_queries.py",
  ),
  # reasons and explanations
  Mutant(
    *("reasons: common class", "a class of one photograph is common to both", "retrieval/reasons.py"),
    *("np.minimum(query[answer_ids], answer)", "np.maximum(query[answer_ids], answer)"),
    "retrieval/test_reasons.py",
  ),
  Mutant(
    *("reasons: cells of a box", "most cells of a query's box are not compared", "retrieval/reasons.py"),
    *("MIN_CAM if query.photograph.box is None else 0.0", "MIN_CAM"),
    "retrieval/test_reasons.py",
  ),
  Mutant(
    *("explanation: axes", "boxes of a stretched photograph are off", "retrieval/explanation.py"),
    *("cell * height / resized[0], cell * width / resized[1]", "cell * width / resized[1], cell * height / resized[0]"),
    "retrieval/test_explanation.py",
  ),
  # index
  Mutant(
    *("index: old vectors", "an index of an earlier version is read as int8", "index/schema.py"),
    *('if stored["kind"] == "all" else "float16"', 'if stored["kind"] == "all" else "int8"'),
    "index/test_schema.py",
  ),
  Mutant(
    *("index: stale snapshot", "an index made again is searched by the old descriptors", "index/store.py"),
    *('f"v{self.version}-{content[:16]}"', 'f"v{self.version}"'),
    "index/test_store.py index/test_snapshot.py",
  ),
  # retrieval
  Mutant(
    *("retrieval: rows of online scores", "online answers are other images than those scored", "retrieval/databases.py"),
    *("[: self._count])[:, self._order]", "[: self._count])"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: scales", "stored class vectors are summed without their scales", "retrieval/online.py"),
    *("dequantize(images.class_vectors, images.scales)", "dequantize(images.class_vectors, 0 * images.scales + 1)"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: offline for online", "online search ranks by the database's own classes", "retrieval/searcher.py"),
    *('if aggregation == "offline" else Online', 'if aggregation != "fixed" else Online'),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: whitening of the index", "queries have another whitening than images", "retrieval/searcher.py"),
    *("encoder.replace(whitening=self._whitening)", "encoder"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: expansion without query", "--protocol=reference expands without the query", "retrieval/searcher.py"),
    *("if self.encoder.settings.protocol.expand_with_query:", "if False:"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: reload", "a searcher says that it moved and ranks the old images", "retrieval/searcher.py"),
    *("self.index, self.encoder, self._whitening = other.index,", "_, self.encoder, self._whitening = other.index,"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: least score", "--min_score leaves out an answer of exactly that score", "retrieval/answers.py"),
    *("result.score >= min_score", "result.score > min_score"),
    "retrieval/test_searcher.py::test_answers_down_to_a_score_are_those_that_have_it",
  ),
  # evaluation: metrics
  Mutant(
    *("metrics: trapezoids", "average precision without the mean of neighboring precisions", "metrics/average_precision.py"),
    *("gained * ((precision_before + precision) / 2.0)", "gained * precision"),
    "metrics/test_average_precision.py",
  ),
  Mutant(
    *("metrics: junk", "junk counts as a wrong answer", "metrics/average_precision.py"),
    *("positive - ahead, UNRANKED)", "positive, UNRANKED)"),
    "metrics/test_average_precision.py",
  ),
  Mutant(
    *("metrics: short lists", "mP@10 of a query with five positives is at most 1/2", "metrics/average_precision.py"),
    *("answers = np.minimum(last, int(k))", "answers = np.full_like(last, int(k))"),
    "metrics/test_average_precision.py",
  ),
  Mutant(
    *("metrics: query without positives", "queries without positives lower mAP", "metrics/average_precision.py"),
    *("for value in map(float, values) if not math.isnan(value)]", "for value in map(float, np.nan_to_num([*values]))]"),
    "metrics/test_average_precision.py",
  ),
  Mutant(
    *("metrics: N-S", "UKBench's score is of the first five", "metrics/ns_score.py"),
    *("ANSWERS = 4", "ANSWERS = 5"),
    "metrics/test_ns_score.py",
  ),
  Mutant(
    *("metrics: ties", "equal scores are ranked in another order than the documented one", "metrics/ranks.py"),
    *("keys |= order", "keys |= order[::-1]"),
    "metrics/test_ranks.py",
  ),
  Mutant(
    *("metrics: own list", "a Holidays query finds itself and gains from it", "datasets/openers.py"),
    *("if row != query]", "]"),
    "datasets/test_openers.py",
  ),
  # evaluation: systems
  Mutant(
    *("systems: CroW's epsilon", "crow_epsilon changes nothing", "systems/system.py"),
    *("seen.mask, seen.settings.crow_epsilon)", "seen.mask)"),
    "evaluation/test_systems.py",
  ),
  Mutant(
    *("systems: online by own classes", "OnA describes images by their own classes", "systems/system.py"),
    *('None, classes="query"', 'None, classes="own"'),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: classes of a query", "a query's classes are those around its box", "extraction/passes.py"),
    *("if class_ids is None else class_ids", ""),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: cells of a query", "a query's box is ignored", "extraction/passes.py"),
    *("mask & mask_boxes(cells, mask.shape[1:])", "mask"),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: box of a query", "crow_box=size changes nothing", "systems/queries.py"),
    *("right, bottom = left + right, top + bottom", "right, bottom = right, bottom"),
    "systems/test_queries.py",
  ),
  Mutant(
    *("systems: box outside", "a query outside the database is read by crow_box", "systems/queries.py"),
    *('if query.image in database else "corners"', ""),
    "systems/test_queries.py",
  ),
  Mutant(
    *("systems: contrast", "query_images=stretched changes systems other than the paper's", "extraction/seeing.py"),
    *('own = protocol.size_rule in ("shorter_side", "fixed_frame")', "own = True"),
    "evaluation/test_seeing.py::TestStretchedPixels",
  ),
  Mutant(
    *("systems: fixed list", "the fixed list is of the rarest classes", "evaluation/scoring.py"),
    *("np.argsort(-counts", "np.argsort(counts"),
    "evaluation/test_scoring.py",
  ),
  Mutant(
    *("systems: distractors", "Oxford105k is scored as Oxford5k", "evaluation/scoring.py"),
    *("databases.append(rows)", "databases.append(rows[:0])"),
    "evaluation/test_scoring.py",
  ),
  Mutant(
    *("systems: rows of the database", "online scores are those of other images", "evaluation/scoring.py"),
    *("found.scores[:, self._rows]", "found.scores"),
    "evaluation/test_experiment.py",
  ),
  Mutant(
    *("systems: n_pca", "a whitening is fitted on all of an image's classes", "evaluation/fitting.py"),
    *("slice(self._settings.n_pca), self._settings.n_pca", "ALL, self._settings.n_pca"),
    "evaluation/test_fitting.py",
  ),
  Mutant(
    *("systems: half precision", "scores are rounded to float16 and tie", "evaluation/descriptors.py"),
    *("np.asarray(ranking.score(queries, padded))", "np.asarray(ranking.score(queries, padded), np.float16)"),
    "evaluation/test_descriptors.py",
  ),
  Mutant(
    *("systems: stale vectors", "an image that was exchanged keeps the vectors of the old one", "extraction/vectors.py"),
    *("in zip(part.ids, part.signatures, strict=True) if signatures.get(name) == one)", "in zip(part.ids, part.signatures))"),
    "extraction/test_vectors.py",
  ),
)


def apply(mutant: Mutant, root: Path) -> None:
  """Breaks the checkout in `root`."""
  file = root / "cwf_jax" / mutant.file
  file.write_text(file.read_text().replace(mutant.old, mutant.new))


def find_lost(mutants: tuple[Mutant, ...]) -> list[str]:
  """Returns a line for each text that does not occur once in its file and each test that is gone, with where it may be now."""
  package, lost = {file: file.read_text() for file in (ROOT / "cwf_jax").rglob("*.py")}, []
  for mutant in mutants:
    count = package.get(ROOT / "cwf_jax" / mutant.file, "").count(mutant.old)
    if count != 1:
      now = ", ".join(str(file.relative_to(ROOT)) for file, text in package.items() if mutant.old in text)
      lost.append(f"{mutant.name}: {count} times in cwf_jax/{mutant.file}: {mutant.old}; it occurs in {now or 'no file'}")
    for test in mutant.tests.split():
      file = ROOT / "tests" / test.split("::")[0]
      if not file.exists():
        now = ", ".join(str(other.relative_to(ROOT)) for other in (ROOT / "tests").rglob(file.name))
        lost.append(f"{mutant.name}: there is no tests/{test}; of its name there is {now or 'no file'}")
  return lost


def run_tests(root: Path, tests: list[str], programs: Path, processes: int = 0) -> tuple[int | None, str]:
  """Runs tests of the checkout in `root` until one fails.

  Args:
    root: of the checkout.
    tests: files or node ids under `tests`.
    programs: the folder of compiled programs, shared by all runs.
    processes: of xdist; 0: none.

  Returns:
    The exit status of pytest, None if it took more than `SECONDS`; and what it printed.
  """
  command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", str(processes), "--dist", "loadfile"]
  environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(root.parent), "JAX_COMPILATION_CACHE_DIR": str(programs)}
  command += [f"tests/{test}" for test in tests]
  limit = None if processes else SECONDS
  try:
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit)
  except subprocess.TimeoutExpired:
    return None, ""
  return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant, original: Path, programs: Path) -> tuple[str, float]:
  """Returns "caught by TEST", "SURVIVED" or "BROKEN ..." where the tests cannot even be collected; and the seconds it took."""
  started = time.monotonic()
  with tempfile.TemporaryDirectory(dir=original.parent.parent, ignore_cleanup_errors=True) as folder:
    root = Path(folder) / "checkout"
    shutil.copytree(original, root)  # with the bytecode of the modules that stay as they are
    apply(mutant, root)
    status, printed = run_tests(root, mutant.tests.split(), programs)
  seconds = time.monotonic() - started
  if status is None:
    return f"caught, it took more than {SECONDS} s", seconds
  if status == 0:
    return "SURVIVED", seconds
  failed = re.findall(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", printed, re.MULTILINE)
  return (f"caught by {failed[0]}" if status == 1 and failed else f"BROKEN, pytest ended with {status}:\n{printed}"), seconds


def main() -> int:
  """Returns the exit status: 0 if every mutant was caught."""
  parser = argparse.ArgumentParser(description="Runs the tests against small breakages of the package.")
  parser.add_argument("--only", metavar="PATTERN", default="", help="mutants whose name or file has this regular expression")
  parser.add_argument("--jobs", metavar="N", type=int, default=2, help="mutants that are tested at a time")
  parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
  arguments = parser.parse_args()
  mutants = tuple(mutant for mutant in MUTANTS if re.search(arguments.only, f"{mutant.name} {mutant.file}"))
  if arguments.list:
    print("\n".join(f"{mutant.name:34} {mutant.file:34} {mutant.harm}" for mutant in mutants))
    return 0
  lost = find_lost(mutants)
  if lost or not mutants:
    print("\n".join(lost) or f"no mutant is called {arguments.only}", file=sys.stderr)
    return 1
  with tempfile.TemporaryDirectory(prefix="cwf_jax-mutants-", ignore_cleanup_errors=True) as folder:
    original, programs = Path(folder) / "original" / "checkout", Path(folder) / "programs"
    shutil.copytree(ROOT, original, ignore=IGNORED)
    tests = sorted({test for mutant in mutants for test in mutant.tests.split()})
    started = time.monotonic()
    status, printed = run_tests(original, tests, programs, arguments.jobs)
    if status:
      print(f"the tests fail without a mutant:\n{printed}", file=sys.stderr)
      return 1
    print(f"{len(mutants)} mutants; their tests pass without them in {time.monotonic() - started:.0f} s", flush=True)
    survived = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as threads:
      verdicts = threads.map(lambda mutant: judge(mutant, original, programs), mutants)
      for mutant, (verdict, seconds) in zip(mutants, verdicts, strict=True):
        print(f"{mutant.name:34} {seconds:5.0f} s  {verdict}", flush=True)
        survived += [] if verdict.startswith("caught") else [mutant.name]
  print(f"{len(mutants) - len(survived)} of {len(mutants)} caught in {time.monotonic() - started:.0f} s")
  return 1 if survived else 0


if __name__ == "__main__":
  sys.exit(main())
