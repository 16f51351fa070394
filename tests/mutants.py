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
    *("cams: no mask", "the padding has a class of its own", "ops/cams.py"),
    *("jnp.ones(maps.shape[:3], bool) if mask is None else mask", "jnp.ones(maps.shape[:3], bool)"),
    "ops/test_cams.py",
  ),
  Mutant(
    *("cams: one maximum", "all classes are divided by the strongest class's maximum", "ops/cams.py"),
    *("largest = maps.max((1, 2), keepdims=True)", "largest = maps.max((1, 2, 3), keepdims=True)"),
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
    *("aggregation: no normalization", "scores grow with the number of classes", "ops/aggregation.py"),
    *("l2_normalize(class_vectors.sum(1))", "class_vectors.sum(1)"),
    "ops/test_aggregation.py",
  ),
  Mutant(
    *("aggregation: lacking classes", "a wrong number of missing classes is reported", "ops/aggregation.py"),
    *("wanted.shape[1] - matches.sum(-1)", "class_ids.shape[1] - matches.sum(-1)"),
    "ops/test_aggregation.py",
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
    *("weighting: silent channel", "a channel that never fires has the largest weight", "ops/weighting.py"),
    *("jnp.where(counts > 0,", "jnp.where(counts >= 0,"),
    "ops/test_weighting.py",
  ),
  Mutant(
    *("weighting: root", "CroW's cells are squared where a root is taken", "ops/weighting.py"),
    *(") ** (1.0 / b)", ") ** b"),
    "ops/test_weighting.py",
  ),
  Mutant(
    *("weighting: center prior", "SPoC's prior follows the longer side", "ops/weighting.py"),
    *("jnp.minimum(across.sum(1), down.sum(1))", "jnp.maximum(across.sum(1), down.sum(1))"),
    "ops/test_weighting.py",
  ),
  Mutant(
    *("quantization: steps", "the largest value of a stored vector turns negative", "ops/quantization.py"),
    *("axis=-1) / 127", "axis=-1) / 128"),
    "ops/test_quantization.py",
  ),
  Mutant(
    *("quantization: rounding", "stored vectors are twice as far off", "ops/quantization.py"),
    *("jnp.round(vectors", "jnp.trunc(vectors"),
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
    *("resizing: half pixel", "finer maps are shifted by half a cell", "ops/resizing.py"),
    *("+ 0.5) / factor - 0.5", ") / factor"),
    "ops/test_resizing.py",
  ),
  Mutant(
    *("resizing: valid edge", "padding leaks into the last row of a finer map", "ops/resizing.py"),
    *("jnp.maximum(valid, 1)[:, None] - 1", "0 * valid[:, None] + maps.shape[axis] - 1"),
    "ops/test_resizing.py",
  ),
  Mutant(
    *("matching: one-sided", "cells match although the other one has a nearer one", "ops/matching.py"),
    *("mutual & (largest", "(largest"),
    "ops/test_matching.py",
  ),
  Mutant(
    *("matching: rotation", "photographs are turned the other way", "ops/matching.py"),
    *("[[cosines, -sines], [sines, cosines]]", "[[cosines, sines], [-sines, cosines]]"),
    "ops/test_matching.py",
  ),
  Mutant(
    *("matching: tolerance", "matches at exactly the tolerance get no vote", "ops/matching.py"),
    *("own) <= tolerances[:, None]", "own) < tolerances[:, None]"),
    "ops/test_matching.py",
  ),
  Mutant(
    *("pooling: maximum without mask", "MAC takes the padding's maximum", "ops/pooling.py"),
    *("jnp.where(mask[..., None], features, lowest)", "features"),
    "ops/test_pooling_max.py",
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
    *("ranking: shard's padding", "padding of the last device is an answer", "ops/ranking.py"),
    *("jnp.arange(own) < count", "jnp.arange(own) <= count"),
    "ops/test_shards.py",
  ),
  Mutant(
    *("ranking: expansion without query", "an expanded query forgets itself", "ops/ranking.py"),
    *("total if queries is None else total + queries", "total"),
    "ops/test_ranking.py",
  ),
  Mutant(
    *("ranking: alpha", "alpha query expansion has the exponent 1", "ops/ranking.py"),
    *("jnp.where(scores > 0, scores, 1.0) ** alpha", "jnp.where(scores > 0, scores, 1.0)"),
    "ops/test_expansion.py",
  ),
  Mutant(
    *("ranking: own neighbor", "augmentation counts an image among its own neighbors", "ops/ranking.py"),
    *("rows != own[:, None]", "rows >= 0"),
    "ops/test_expansion.py",
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
    *("whitening: mean", "vectors are whitened without their mean", "ops/whitening.py"),
    *("jnp.matmul(vectors - whitening.mean,", "jnp.matmul(vectors,"),
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
  Mutant(
    *("regions: right edge", "a box takes in one more column", "ops/regions.py"),
    *("(columns < right)", "(columns <= right)"),
    "ops/test_mask_boxes.py",
  ),
  # encoder, protocol and queries
  Mutant(
    *("encoder: cut", "maps and vectors of a box are those of the whole image", "encoder.py"),
    *("else activations.mask & cut", "else activations.mask"),
    "test_encoder.py",
  ),
  Mutant(
    *("encoder: least probable", "images are described by their least probable classes", "encoder.py"),
    *("stable=True, descending=True)", "stable=True)"),
    "test_encoder.py",
  ),
  Mutant(
    *("protocol: box", "the last column of a query's box is cut off", "protocol.py"),
    *("math.ceil(right * resized[1] / across)", "math.floor(right * resized[1] / across)"),
    "test_protocol.py",
  ),
  Mutant(
    *("protocol: clipping", "boxes of portraits are clipped to the wrong side", "protocol.py"),
    *("min(right, float(width)), min(bottom, float(height))", "min(right, float(height)), min(bottom, float(width))"),
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
    *("reasons: common class", "a class of one photograph is common to both", "reasons.py"),
    *("np.minimum(query[answer_ids], answer)", "np.maximum(query[answer_ids], answer)"),
    "test_reasons.py",
  ),
  Mutant(
    *("reasons: size of a cell", "boxes lie elsewhere in a resized photograph", "reasons.py"),
    *("photograph.side * original / resized", "photograph.side * resized / original"),
    "test_reasons.py",
  ),
  Mutant(
    *("reasons: cells of a box", "most cells of a query's box are not compared", "reasons.py"),
    *("MIN_CAM if query.photograph.box is None else 0.0", "MIN_CAM"),
    "test_reasons.py",
  ),
  Mutant(
    *("explanation: axes", "boxes of a stretched photograph are off", "explanation.py"),
    *("cell * height / resized[0], cell * width / resized[1]", "cell * width / resized[1], cell * height / resized[0]"),
    "test_explanation.py",
  ),
  Mutant(
    *("explanation: shares", "shares are those of a photograph with itself", "explanation.py"),
    *("vectors[::-1]", "vectors"),
    "test_explanation.py",
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
  Mutant(
    *("index: cut snapshot", "a snapshot that was cut off is an error", "index/snapshot.py"),
    *("except (OSError, ValueError, EOFError):", "except OSError:"),
    "index/test_snapshot.py",
  ),
  # retrieval
  Mutant(
    *("retrieval: rows of online scores", "online answers are other images than those scored", "retrieval/databases.py"),
    *("[: self._count])[:, self._order]", "[: self._count])"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: padding lacks", "short lists of classes lack what nobody asked for", "retrieval/online.py"),
    *("lacked - padded", "lacked"),
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
    *("encoder.replace(whitening=whitening)", "encoder"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: expansion without query", "--protocol=reference expands without the query", "retrieval/searcher.py"),
    *("if self.encoder.settings.protocol.expand_with_query:", "if False:"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: reload", "a searcher says that it moved and ranks the old images", "retrieval/searcher.py"),
    *("self.index, self.encoder = other.index, other.encoder", "self.encoder = other.encoder"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: fixed list", "a fixed search uses the query's own classes", "retrieval/searcher.py"),
    *("encode_query(self.encoder, image, box, ids,", "encode_query(self.encoder, image, box, None,"),
    "retrieval/test_searcher.py",
  ),
  Mutant(
    *("retrieval: least score", "--min_score leaves out an answer of exactly that score", "retrieval/answers.py"),
    *("result.score >= min_score", "result.score > min_score"),
    "retrieval/test_searcher.py::test_answers_down_to_a_score_are_those_that_have_it",
  ),
  Mutant(
    *("retrieval: order of shares", "the smallest shares are shown first", "retrieval/answers.py"),
    *("np.argsort(-shares", "np.argsort(shares"),
    "retrieval/test_searcher.py",
  ),
  # evaluation: metrics
  Mutant(
    *("metrics: trapezoids", "average precision without the mean of neighboring precisions", "evaluation/average_precision.py"),
    *("gained * ((precision_before + precision) / 2.0)", "gained * precision"),
    "evaluation/test_average_precision.py",
  ),
  Mutant(
    *("metrics: junk", "junk counts as a wrong answer", "evaluation/average_precision.py"),
    *("positive - ahead, UNRANKED)", "positive, UNRANKED)"),
    "evaluation/test_average_precision.py",
  ),
  Mutant(
    *("metrics: short lists", "mP@10 of a query with five positives is at most 1/2", "evaluation/average_precision.py"),
    *("answers = np.minimum(last, int(k))", "answers = np.full_like(last, int(k))"),
    "evaluation/test_average_precision.py",
  ),
  Mutant(
    *("metrics: query without positives", "queries without positives lower mAP", "evaluation/average_precision.py"),
    *("for value in map(float, values) if not math.isnan(value)]", "for value in map(float, np.nan_to_num([*values]))]"),
    "evaluation/test_average_precision.py",
  ),
  Mutant(
    *("metrics: N-S", "UKBench's score is of the first five", "evaluation/ns_score.py"),
    *("ANSWERS = 4", "ANSWERS = 5"),
    "evaluation/test_ns_score.py",
  ),
  Mutant(
    *("metrics: ties", "equal scores are ranked in another order than the documented one", "evaluation/places.py"),
    *("keys |= order", "keys |= order[::-1]"),
    "evaluation/test_places.py",
  ),
  Mutant(
    *("metrics: NaN", "an image whose score is NaN comes first", "evaluation/places.py"),
    *("np.float32(-np.inf)", "np.float32(np.inf)"),
    "evaluation/test_places.py",
  ),
  Mutant(
    *("metrics: two-sided", "an interval of 95 % covers 90 %", "evaluation/bootstrap.py"),
    *("[(1 - level) / 2, (1 + level) / 2]", "[1 - level, level]"),
    "evaluation/test_bootstrap.py",
  ),
  Mutant(
    *("metrics: positives and junk", "positives are skipped and junk is looked for", "evaluation/benchmark.py"),
    *("places[:, start:middle], places[:, middle:end]", "places[:, middle:end], places[:, start:middle]"),
    "evaluation/test_openers.py evaluation/test_experiment.py",
  ),
  Mutant(
    *("metrics: own list", "a Holidays query finds itself and gains from it", "evaluation/openers.py"),
    *("if row != query]", "]"),
    "evaluation/test_openers.py",
  ),
  # evaluation: systems
  Mutant(
    *("systems: CroW's epsilon", "crow_epsilon changes nothing", "evaluation/systems.py"),
    *("seen.mask, seen.settings.crow_epsilon)", "seen.mask)"),
    "evaluation/test_systems.py",
  ),
  Mutant(
    *("systems: SPoC's center", "SPoC is plain sum pooling", "evaluation/systems.py"),
    *("seen.mask, compute_center_weights(seen.features, seen.mask))", "seen.mask)"),
    "evaluation/test_systems.py",
  ),
  Mutant(
    *("systems: MAC's query", "MAC looks for the whole image, not its box", "evaluation/systems.py"),
    *("NATIVE, BOX, pool_mac)", "NATIVE, IMAGE, pool_mac)"),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: online by own classes", "OnA describes images by their own classes", "evaluation/systems.py"),
    *('None, classes="query"', 'None, classes="own"'),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: classes of a query", "a query's classes are those around its box", "evaluation/passes.py"),
    *("if class_ids is None else class_ids", ""),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: cells of a query", "a query's box is ignored", "evaluation/passes.py"),
    *("mask & mask_boxes(cells, mask.shape[1:])", "mask"),
    "evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: box of a query", "crow_box=size changes nothing", "evaluation/queries.py"),
    *("right, bottom = left + right, top + bottom", "right, bottom = right, bottom"),
    "evaluation/test_queries.py",
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
    "evaluation/test_fitting.py evaluation/test_parity.py",
  ),
  Mutant(
    *("systems: half precision", "scores are rounded to float16 and tie", "evaluation/descriptors.py"),
    *("np.asarray(ranking.score(queries, padded))", "np.asarray(ranking.score(queries, padded), np.float16)"),
    "evaluation/test_descriptors.py",
  ),
  Mutant(
    *("systems: stale vectors", "an image that was exchanged keeps the vectors of the old one", "evaluation/vectors.py"),
    *("in zip(part.ids, part.signatures, strict=True) if signatures.get(name) == one)", "in zip(part.ids, part.signatures))"),
    "evaluation/test_vectors.py",
  ),
)


def apply(mutant: Mutant, root: Path) -> None:
  """Breaks the checkout in `root`."""
  file = root / "cwf_jax" / mutant.file
  file.write_text(file.read_text().replace(mutant.old, mutant.new))


def find_lost(mutants: tuple[Mutant, ...]) -> list[str]:
  """Returns what is wrong with mutants whose text does not occur exactly once, or whose tests are gone."""
  lost = []
  for mutant in mutants:
    file = ROOT / "cwf_jax" / mutant.file
    count = file.read_text().count(mutant.old) if file.exists() else 0
    if count != 1:
      lost.append(f"{mutant.name}: its text occurs {count} times in {mutant.file}: {mutant.old}")
    gone = [test for test in mutant.tests.split() if not (ROOT / "tests" / test.split("::")[0]).exists()]
    lost += [f"{mutant.name}: there is no tests/{test}" for test in gone]
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
