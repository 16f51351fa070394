"""An index of each system ranks as an evaluation of it does: the same ids in the same order with the same scores."""

import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.evaluation.scoring import Scorer
from cwf_jax.index.schema import to_array
from cwf_jax.index.store import open_index
from cwf_jax.indexing.build import build_index
from cwf_jax.load import load_encoder
from cwf_jax.retrieval.searcher import Searcher
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS

STORED = [name for name, system in SYSTEMS.items() if system.pool is not None]


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint):
  return load_encoder(str(tiny_checkpoint), num_classes=4)


@pytest.fixture(scope="module")
def make_index(benchmark, encoder, tmp_path_factory):
  """Indexes the benchmark's images by a system."""

  def make(name, **settings):
    folder = tmp_path_factory.mktemp(name) / "index"
    summary = build_index(benchmark.listing.root, folder, encoder, system=name, **settings)
    assert summary.skipped == ()
    return folder

  return make


@pytest.mark.parametrize("name", STORED)
def test_a_search_ranks_as_an_evaluation(name, make_index, benchmark, encoder, tmp_path):
  settings = Settings.preset("paper", {"num_classes": encoder.settings.protocol.num_classes})
  scorer = Scorer(benchmark, encoder, settings, tmp_path)
  scorer.make_passes([(name, False)])
  expected = scorer.score(name, False).scores
  searcher = Searcher(make_index(name))
  assert searcher.index.settings.system == name
  for query, scores in zip(benchmark.queries, expected, strict=True):
    encoded = searcher.encode(benchmark.listing.path(query.image), query.box)
    answers = searcher.search([encoded], top=len(scores))[0]
    by_id = dict(zip(benchmark.database, scores, strict=True))
    found = np.array([answer.score for answer in answers])
    np.testing.assert_allclose(found, [by_id[answer.id] for answer in answers], atol=1e-6)
    assert (np.diff(found) <= 0).all() and {answer.id for answer in answers} == set(benchmark.database)
    assert all(answer.classes == () for answer in answers)


@pytest.mark.parametrize("name", ["rmac", "cwr"])
def test_an_indexed_image_finds_itself_and_says_why(name, make_index, benchmark):
  searcher = Searcher(make_index(name))
  path = benchmark.listing.path(benchmark.database[0])
  query = searcher.encode(path)
  (answer,) = searcher.match(query, searcher.search([query], top=1)[0])
  assert answer.id == benchmark.database[0] and answer.score == pytest.approx(1, abs=1e-5)
  assert answer.match is not None and answer.match.places > 0
  assert len(searcher.search([query], top=3, expand=2)[0]) == 3


def test_it_is_whitened_by_its_own_vectors(make_index):
  folder = make_index("rmac", whitening="self", dimensions=3)
  index = open_index(folder)
  assert index.settings.dimensions == 3 and index.settings.whitening.source == "self"
  descriptors = np.concatenate([to_array(table["descriptor"]) for table in index.scan_by_id(["descriptor"], 100)])
  np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
  assert Searcher(index).search([Searcher(index).encode(next(iter(index.scan(["path"])))["path"][0].as_py())], top=1)


def test_what_a_system_cannot_do_is_refused(make_index, benchmark, encoder, tmp_path):
  for system, message in (("ona", "describes images for each query"), ("rmax", "is unknown.*did you mean rmac")):
    with pytest.raises(InputError, match=message):
      build_index(benchmark.listing.root, tmp_path / "none", encoder, system=system)
  with pytest.raises(InputError, match="--store_classes is for --system=ofa"):
    build_index(benchmark.listing.root, tmp_path / "none", encoder, system="rmac", store_classes=3)
  with pytest.raises(InputError, match="come without a whitening for rmac"):
    build_index(benchmark.listing.root, tmp_path / "none", encoder, system="rmac", whitening="bundled")
  assert not (tmp_path / "none").exists()
  folder = make_index("mac")
  searcher = Searcher(folder)
  query = searcher.encode(benchmark.listing.path(benchmark.database[0]))
  with pytest.raises(InputError, match="is of mac, which searches by no classes"):
    searcher.search([query], aggregation="online")
  with pytest.raises(InputError, match="its system is mac, not gem"):
    build_index(benchmark.listing.root, folder, system="gem")
