"""A database in parts: rankings of its shards merged, in one process and on eight devices."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from cwf_jax.ops.ranking import Ranking, merge, rank, rank_scores, rank_shards
from tests.oracle import ranking
from tests.oracle.deviation import assert_close

TOLERANCE = 1e-5  # inner products of float32 unit rows: see test_ranking

CASES = {  # rows on each device, rows that count, answers, queries, how they are drawn
  "unit rows": (16, 128, 10, 3, "unit"),
  "as many answers as rows": (3, 24, 24, 2, "unit"),
  "more answers than rows of a device": (3, 21, 20, 2, "whole"),
  "padding on one device": (16, 125, 125, 3, "unit"),
  "padding on several devices": (5, 12, 12, 1, "whole"),
  "one row counts": (2, 1, 1, 2, "unit"),
  "many ties": (16, 120, 120, 3, "whole"),
  "equal rows": (17, 131, 131, 3, "equal"),
  "nan": (5, 37, 37, 2, "nan"),
}

_RANK = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cwf_jax.ops.ranking import rank, rank_shards
given, found = np.load(sys.argv[1]), {"devices": jax.device_count()}
mesh = Mesh(np.array(jax.devices()), ("data",))
for name in sorted({key.split("/")[0] for key in given}):
  queries, database = given[name + "/queries"], given[name + "/database"]
  count, k = map(int, given[name + "/count_and_k"])
  cut = jax.device_put(database, NamedSharding(mesh, PartitionSpec("data")))
  ranking = rank_shards(jnp.asarray(queries), cut, k, mesh, count=count)
  whole = rank(jnp.asarray(queries), jnp.asarray(database[:count]), k)
  for kind, result in (("cut", ranking), ("whole", whole)):
    found |= {name + "/" + kind + "/" + part: np.asarray(getattr(result, part)) for part in ("rows", "scores")}
try:
  rank_shards(jnp.ones((1, 2)), jnp.ones((12, 2)), 1, mesh)
except ValueError as error:
  found["refused"] = str(error)
np.savez(sys.argv[2], **found)
"""


def draw(n, channels, kind, seed=0):
  """Unit rows; or of whole numbers, of which many score equally and exactly; or all the same; or some of them NaN."""
  random = np.random.default_rng(seed)
  if kind == "whole":
    return random.integers(-2, 3, size=(n, channels)).astype(np.float32)
  rows = random.normal(size=(1 if kind == "equal" else n, channels))
  rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
  if kind == "nan":
    rows[::4] = np.nan
  return np.repeat(rows, n, axis=0) if kind == "equal" else rows


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
  """What each case gives on eight devices: one process for them all."""
  folder, given = tmp_path_factory.mktemp("shards"), {}
  for name, (own, count, k, queries, kind) in CASES.items():
    database = draw(8 * own, 8, kind)
    database[count:] = database[0] * 9  # the padding would win, did it count
    given |= {f"{name}/queries": draw(queries, 8, "unit" if kind in ("equal", "nan") else kind, seed=1)}
    given |= {f"{name}/database": database, f"{name}/count_and_k": np.array([count, k])}
  np.savez(folder / "given.npz", **given)
  done = subprocess.run(
    [sys.executable, "-c", _RANK, folder / "given.npz", folder / "found.npz"],
    cwd=Path(__file__).parents[2],
    # as it is used, with XLA's own settings, and not with those that make tests compile quickly
    env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": "."},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return given, dict(np.load(folder / "found.npz"))


@pytest.mark.parametrize("name", CASES)
def test_eight_devices_rank_as_one(sharded, name):
  given, found = sharded
  assert found["devices"] == 8
  _, count, k, queries, kind = CASES[name]
  np.testing.assert_array_equal(found[f"{name}/cut/rows"], found[f"{name}/whole/rows"])
  assert found[f"{name}/cut/rows"].shape == (queries, k)
  assert found[f"{name}/cut/rows"].max() < count  # never a row of the padding
  np.testing.assert_allclose(found[f"{name}/cut/scores"], found[f"{name}/whole/scores"], atol=1e-6)  # another order of vectors
  if kind != "equal":  # in float64 they score equally, too, but the oracle's sums of one row need not be those of another
    expected = ranking.score(given[f"{name}/queries"], given[f"{name}/database"][:count])
    rows = ranking.order(expected, k)
    assert_close("rankings of shards (rows)", found[f"{name}/cut/rows"], rows, 0.0)
    best = np.take_along_axis(expected, rows, axis=1)
    there = ~np.isnan(best)
    assert_close("scores of shards", found[f"{name}/cut/scores"][there], best[there], TOLERANCE)
    assert np.isneginf(found[f"{name}/cut/scores"][~there]).all()
  else:
    np.testing.assert_array_equal(found[f"{name}/cut/rows"], np.tile(np.arange(k), (queries, 1)))


def test_one_device_is_a_mesh_too():
  mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
  queries, database = jnp.asarray(draw(2, 8, "unit", seed=1)), jnp.asarray(draw(12, 8, "unit"))
  found = rank_shards(queries, database, 5, mesh, axis="rows", count=9)
  np.testing.assert_array_equal(found.rows, rank(queries, database[:9], 5).rows)


def test_rows_that_cannot_be_cut_evenly_are_refused(sharded):
  assert str(sharded[1]["refused"]) == "12 rows cannot be cut evenly among 8 devices: pad them, and give their count"


def test_what_cannot_be_answered_is_refused():
  queries, database = jnp.ones((1, 2)), jnp.ones((12, 2))
  mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
  for k, count in ((0, None), (13, None), (4, 3), (1, 0), (1, 13)):
    with pytest.raises(ValueError, match=f"k is 1 to the {12 if count is None else count} of 12 rows that count; found {k}"):
      rank_shards(queries, database, k, mesh, count=count)
  with pytest.raises(ValueError, match="there is no ranking to merge"):
    merge([], 3)


@hypothesis.given(st.integers(0, 99), st.permutations([8, 8, 16]), st.sampled_from([5, 32]), st.booleans())
def test_shards_merged_are_the_full_search(seed, sizes, k, ties):
  """Of any sizes, with equal scores in the order of the rows, in one merge and one after another."""
  scores = np.random.default_rng(seed).integers(-3, 4, (3, 32)) if ties else np.random.default_rng(seed).normal(size=(3, 32))
  scores = scores.astype(np.float32)
  whole = rank_scores(jnp.asarray(scores), k)
  starts = np.cumsum([0, *sizes])
  shards = []
  for start, size in zip(starts, sizes, strict=False):
    found = rank_scores(jnp.asarray(scores[:, start : start + size]), min(k, size))
    shards.append(Ranking(found.rows + int(start), found.scores))
  step = shards[0]
  for shard in shards[1:]:
    step = merge([step, shard], k)
  for found in (merge(shards, k), step):
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.scores, whole.scores)
