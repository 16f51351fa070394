"""Collections with known answers: opened, scored by hand, refused; and ties that tell nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from cwf_jax.errors import InputError
from cwf_jax.evaluation.collection import open_collection, open_folder, open_ukbench, rank_shuffled
from tests.oracle import average_precision as oracle


def _make(folder, names, content=None):
  for name in names:
    (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(folder / "images" / name)
  if content is not None:
    (folder / "gt.json").write_text(json.dumps(content))
  return folder


@pytest.fixture
def folder(tmp_path):
  """Four images that are ranked, not in the order of the files, and two queries, one of them among the four."""
  queries = {
    "q.png": {"relevant": ["b.png", "d/e.png"], "junk": ["a.png"]},
    "c.png": {"relevant": ["c.png"], "junk": []},
    "r.png": {"relevant": [], "junk": []},
  }
  content = {"database": ["b.png", "a", "d/e.png", "c.png"], "queries": queries}
  content["queries"]["q.png"]["junk"] = ["a"]
  return _make(tmp_path, ["a.png", "b.png", "c.png", "d/e.png", "q.png", "r.png", "unused.png"], content)


class TestFolder:
  def test_what_is_opened(self, folder):
    found = open_collection("products", folder)
    assert (found.name, found.metric, found.answers) == ("products", "mAP", 4)
    assert found.database == ("b.png", "a.png", "d/e.png", "c.png")
    assert found.queries == ("q.png", "c.png", "r.png")
    assert found.images == ("a.png", "b.png", "c.png", "d/e.png", "q.png", "r.png")
    assert found.listing.path("q.png") == str(folder / "images/q.png")

  def test_scores_by_hand(self, folder):
    # Rows: b 0, a 1, d/e 2, c 3. Behind junk, b and d/e are first and third of b, c, d/e: 1/2 + 1/2 (1/2 + 2/3)/2.
    found = open_folder(folder).score(np.asarray([[1, 0, 3, 2], [0, 3, 1, 2], [0, 1, 2, 3]]))
    np.testing.assert_allclose(found[:2], [19 / 24, 1 / 4], atol=1e-15)  # (0 + 1/2)/2
    assert np.isnan(found[2]) and found.dtype == np.float64

  def test_scores_are_the_oracle_s(self, folder):
    generator = np.random.default_rng(0)
    collection = open_folder(folder)
    for _ in range(20):
      ranked = np.stack([generator.permutation(4) for _ in range(3)])
      first, second, _ = ranked.tolist()
      expected = [oracle.average_precision(first, [0, 2], [1]), oracle.average_precision(second, [3], [])]
      assert collection.score(ranked)[:2].tolist() == expected

  def test_a_ranking_for_each_query_is_needed(self, folder):
    with pytest.raises(ValueError, match="longer"):
      open_folder(folder).score(np.arange(4)[None])

  @pytest.mark.parametrize(
    ("change", "message"),
    [
      ({"database": ["gone.png", "b.png", "a", "d/e.png", "c.png"]}, "names 1 images which are not there: gone.png"),
      ({"queries": {"lost.png": {"relevant": [], "junk": []}}}, "names 1 images which are not there: lost.png"),
      ({"queries": {"q.png": {"relevant": ["z"], "junk": []}}}, "1 images of relevant are not in the database: z"),
      (
        {"queries": {"q.png": {"relevant": [], "junk": [], "box": [0, 0, 16, 16]}}},
        "queries are whole images here; 1 have a box, the first is q.png",
      ),
    ],
  )
  def test_what_is_refused(self, folder, change, message):
    content = json.loads((folder / "gt.json").read_text())
    (folder / "gt.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
      open_folder(folder)

  def test_its_parts_are_needed(self, folder, tmp_path):
    with pytest.raises(InputError, match=r"gt\.json cannot be read"):
      open_folder(tmp_path / "nowhere")
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(InputError, match=r"no file or folder .*images"):
      open_folder(folder)


class TestUKBench:
  def test_what_is_opened(self, tmp_path):
    found = open_collection("ukbench", _make(tmp_path, [f"ukbench{number:05d}.jpg" for number in range(4, 12)]))
    assert (found.name, found.metric, found.answers) == ("ukbench", "N-S", 4)
    assert found.images == found.database == found.queries and len(found.images) == 8
    ranked = np.asarray([[0, 1, 2, 3]] * 4 + [[4, 0, 5, 1], [5, 6, 7, 4], [6, 0, 1, 2], [0, 1, 2, 3]])
    assert found.score(ranked).tolist() == [4, 4, 4, 4, 2, 4, 1, 0]

  @pytest.mark.parametrize(
    ("names", "message"),
    [
      (["ukbench00000.jpg", "photo.jpg"], "1 of 2 names are not UKBench's.*: photo.jpg"),
      ([f"ukbench{number:05d}.jpg" for number in range(7)], r"1 of 2 objects of UKBench have not 4 views.*: 1 \(3\)"),
    ],
  )
  def test_what_is_refused(self, tmp_path, names, message):
    with pytest.raises(InputError, match=message):
      open_ukbench(_make(tmp_path, names))


class TestRanking:
  def test_equals_numpy_where_there_are_no_ties(self):
    generator = np.random.default_rng(0)
    database, queries = generator.normal(size=(300, 8)).astype(np.float32), generator.normal(size=(5, 8)).astype(np.float32)
    expected = np.argsort(-(queries.astype(np.float64) @ database.T.astype(np.float64)), axis=1)
    for answers in (300, 4, 1):
      np.testing.assert_array_equal(rank_shuffled(queries, database, answers), expected[:, :answers])

  def test_equal_scores_come_in_a_seeded_order_that_is_not_the_files(self):
    zeros = np.zeros((100, 4), np.float32)
    first = rank_shuffled(zeros[:2], zeros, 100)
    np.testing.assert_array_equal(np.sort(first, axis=1), np.tile(np.arange(100), (2, 1)))
    np.testing.assert_array_equal(first, rank_shuffled(zeros[:2], zeros, 100))
    assert (first[0] == first[1]).all() and (first[0] != np.arange(100)).sum() > 90
    assert (first[0] != rank_shuffled(zeros[:1], zeros, 100, seed=1)[0]).sum() > 90

  def test_all_zero_descriptors_find_nothing_in_a_sorted_list(self):
    """In file order the first object's queries would score 1."""
    zeros, objects = np.zeros((200, 4), np.float32), np.repeat(np.arange(20), 10)
    scores = [(objects[rank_shuffled(zeros[:1], zeros, 10, seed)[0]] == 0).mean() for seed in range(40)]
    assert 0.02 < np.mean(scores) < 0.08  # 10 of 200

  def test_what_is_not_finite_comes_last(self):
    database = np.eye(4, dtype=np.float32)[[0, 1, 0, 1, 2]]
    database[1], database[4] = np.nan, np.nan
    (found,) = rank_shuffled(np.eye(4, dtype=np.float32)[:1], database, 5)
    assert set(found[:2]) == {0, 2} and found[2] == 3 and set(found[3:]) == {1, 4}
