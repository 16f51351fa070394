"""The ground truth as it was published, read over empty files as images."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from cwf_jax.datasets.catalogue import find_known
from cwf_jax.datasets.openers import FolderError, open_benchmark
from cwf_jax.metrics.ranks import find_places
from tests.oracle import average_precision as oracle

REAL = Path(__file__).parents[3] / "shared" / "data" / "groundtruth"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the project's data pack (shared/data/groundtruth) is not here")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Oxford5k flat, Paris6k in folders as its archives have it, and the revisited sets."""
  folder = tmp_path_factory.mktemp("real")
  for source, sets in (("oxford", ("oxford5k", "roxford5k")), ("paris", ("paris6k", "rparis6k"))):
    names = (REAL / f"lists/list_{source}_rank.txt").read_text().split()
    plain, revisited = (folder / name for name in sets)
    for name in names:
      place = f"{name.split('_')[1]}/{name}.jpg" if source == "paris" else f"{name}.jpg"
      (plain / "images" / place).parent.mkdir(parents=True, exist_ok=True)
      (plain / "images" / place).touch()
    (plain / "groundtruth").symlink_to(REAL / sets[0])
    (revisited / "groundtruth").mkdir(parents=True)
    (revisited / "groundtruth" / f"gnd_{sets[1]}.pkl").symlink_to(REAL / "revisited" / f"gnd_{sets[1]}.pkl")
    (revisited / "images").symlink_to(plain / "images")
  return folder


@real
class TestReal:
  """The ground truth as it was published, over empty files as images."""

  @pytest.mark.parametrize(("name", "images", "positives"), [("oxford5k", 5063, 2840), ("paris6k", 6392, 8955)])
  def test_oxford_and_paris(self, data_dir, name, images, positives):
    benchmark = open_benchmark(name, data_dir)
    assert len(benchmark.queries) == find_known(name).queries == 55 and len(benchmark.database) == images
    assert benchmark.images == benchmark.database and (benchmark.own_rows >= 0).all()
    (metric,) = benchmark.metrics
    assert (metric.positive >= 0).sum() == positives  # without the name that is twice in a list
    # Perfect, and the values of a random ranking are the oracle's.
    scores = np.random.default_rng(0).random((55, images)).astype(np.float32)
    order = np.arange(images)
    found = benchmark.score(find_places(scores, benchmark.listed, order))["mAP"]
    for query in (0, 17, 54):
      ranked = np.lexsort((order, -scores[query])).tolist()
      lists = [[row for row in rows[query] if row >= 0] for rows in (metric.positive, metric.junk)]
      assert found[query] == oracle.average_precision(ranked, *lists)
    np.put_along_axis(scores, np.where(metric.positive < 0, metric.positive[:, :1], metric.positive), 2.0, axis=1)
    assert (benchmark.score(find_places(scores, benchmark.listed, order))["mAP"] == 1).all()

  def test_the_revisited_ground_truth_beside_it_tells_which_images_are_missing(self, data_dir, tmp_path):
    """Oxford5k's own files name 1,100 of its images alone."""
    (tmp_path / "oxford5k/images").mkdir(parents=True)
    names = sorted(path.name for path in (data_dir / "oxford5k/images").iterdir())
    unnamed = [name for name in names if name.startswith("oxford_0015")][:7]
    for name in (*(name for name in names if name not in unnamed), "mine.jpg"):
      (tmp_path / "oxford5k/images" / name).touch()
    (tmp_path / "oxford5k/groundtruth").symlink_to(REAL / "oxford5k")
    (tmp_path / "roxford5k").mkdir()
    (tmp_path / "roxford5k/groundtruth").symlink_to(data_dir / "roxford5k/groundtruth")
    with pytest.raises(FolderError) as caught:
      open_benchmark("oxford5k", tmp_path)
    lacking, other = caught.value.problems
    assert lacking == ("7 images of the 5,063 of its list are not there", tuple(name[:-4] for name in unnamed))
    assert other == ("1 image is not of Oxford5k", ("mine",))
    # A list of the same names with their endings tells the same.
    (tmp_path / "roxford5k/groundtruth").unlink()
    shutil.copytree(REAL / "oxford5k", tmp_path / "oxford5k/more")
    (tmp_path / "oxford5k/groundtruth").unlink()
    (tmp_path / "oxford5k/more").rename(tmp_path / "oxford5k/groundtruth")
    (tmp_path / "oxford5k/groundtruth/list_oxford5k.txt").write_text("\n".join(names))
    with pytest.raises(FolderError) as caught:
      open_benchmark("oxford5k", tmp_path)
    assert caught.value.problems == (lacking, other)

  def test_another_pickle_beside_it_does_not_matter(self, data_dir, tmp_path):
    (tmp_path / "oxford5k").symlink_to(data_dir / "oxford5k")
    (tmp_path / "roxford5k/groundtruth").mkdir(parents=True)
    answer = {"bbx": [0.0, 0.0, 30.0, 40.0], "easy": [0], "hard": [], "junk": []}
    content = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [answer]}
    (tmp_path / "roxford5k/groundtruth/gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    assert len(open_benchmark("oxford5k", tmp_path).database) == 5063

  @pytest.mark.parametrize(("name", "images", "without_easy"), [("roxford5k", 4993, 2), ("rparis6k", 6322, 0)])
  def test_the_revisited_sets(self, data_dir, name, images, without_easy):
    benchmark = open_benchmark(name, data_dir)
    assert len(benchmark.queries) == 70 and len(benchmark.database) == images and (benchmark.own_rows < 0).all()
    scores = np.random.default_rng(0).random((70, images)).astype(np.float32)
    found = benchmark.score(find_places(scores, benchmark.listed, np.arange(images)))
    assert len(found) == 12
    assert [int(np.isnan(found[f"mAP {level}"]).sum()) for level in ("Easy", "Medium", "Hard")] == [without_easy, 0, 0]
