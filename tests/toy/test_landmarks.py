"""The toy landmarks: real changes, ground truth as measured, two collections apart, and the same bytes everywhere."""

import collections
import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cwf_jax.datasets.groundtruth import read_groundtruth
from cwf_jax.errors import InputError
from cwf_jax.toy import landmarks
from cwf_jax.toy.photographs import open_photograph

ROOT = Path(__file__).parents[2]
COLLECTIONS = {collection.name: collection for collection in (landmarks.TOY_OXFORD, landmarks.TOY_PARIS)}

SCENES = ("coffee", "motorcycle")
SMALL = dataclasses.replace(
  landmarks.TOY_OXFORD, scenes=tuple(scene for scene in landmarks.TOY_OXFORD.scenes if scene.name in SCENES), distractors=3
)
"""For what does not need all of it: one scene of one photograph, one of two."""


@dataclasses.dataclass(frozen=True)
class Written:
  """A collection, what was returned, and what was drawn for it."""

  landmarks: landmarks.Landmarks
  folder: Path
  queries: tuple
  pictures: dict
  progress: list

  def seen(self, scene, kind):
    """What is seen of a scene in its own view of that kind."""
    return self.pictures[self.name(scene, kind)].seen[scene]

  @staticmethod
  def name(scene, kind):
    return f"{scene}_{landmarks.KINDS.index(kind):03d}"

  def open(self, scene, kind):
    with Image.open(self.folder / "images" / f"{self.name(scene, kind)}.jpg") as image:
      image.load()
    return image


def _write(folder, collection):
  pictures, progress, draw_all = {}, [], landmarks._draw_all

  def record(*arguments):
    for name, picture, content in draw_all(*arguments):
      pictures[name] = picture
      yield name, picture, content

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(landmarks, "_draw_all", record)
    queries = landmarks.write_landmarks(folder, collection, progress=lambda *numbers: progress.append(numbers))
  return Written(collection, folder, queries, pictures, progress)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
  """Writes a collection, once."""
  folder = tmp_path_factory.mktemp("landmarks")
  return functools.cache(lambda name: _write(folder / "new" / name, COLLECTIONS[name]))


@pytest.fixture(params=["toy_paris", pytest.param("toy_oxford", marks=pytest.mark.long)])
def written(request, write):
  return write(request.param)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
  folder = tmp_path_factory.mktemp("small")
  landmarks.write_landmarks(folder, SMALL)
  return folder


def _files(folder):
  return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _names(collection):
  scenes = [f"{scene.name}_{number:03d}" for scene in collection.scenes for number in range(len(landmarks.KINDS))]
  return scenes + [f"distractor_{number:03d}" for number in range(collection.distractors)]


def _seen_part(seen):
  """Counted by hand."""
  return np.count_nonzero(np.asarray(seen.mask) >= 128) / seen.area


def test_counts(written):
  least = {"toy_oxford": 10, "toy_paris": 5}[written.landmarks.name]
  assert len(written.landmarks.scenes) >= least and written.landmarks.distractors > 0
  assert sorted(path.name for path in written.folder.iterdir()) == ["groundtruth", "images"]
  assert sorted(path.name for path in (written.folder / "images").iterdir()) == sorted(
    f"{name}.jpg" for name in _names(written.landmarks)
  )
  per_scene = collections.Counter(query.name.rsplit("_", 1)[0] for query in written.queries)
  assert per_scene == {scene.name: 5 for scene in written.landmarks.scenes}
  assert len(list((written.folder / "groundtruth").iterdir())) == 4 * len(written.queries) + 1


def test_the_files_that_are_listed_are_those_that_are_written(written, small):
  for folder, collection in ((written.folder, written.landmarks), (small, SMALL)):
    listed = landmarks.list_files(collection)
    assert sorted(listed) == sorted(path.name for path in folder.iterdir()) == ["groundtruth", "images"]
    for part, names in listed.items():
      assert names == {path.name for path in (folder / part).iterdir()}
  assert len(landmarks.list_files(SMALL)["images"]) == 27 and len(landmarks.list_files(SMALL)["groundtruth"]) == 41


@pytest.mark.long
def test_nothing_is_in_both_collections(write):
  one, two = map(write, COLLECTIONS)
  for held in (
    lambda written: {scene.name for scene in written.landmarks.scenes},
    lambda written: {name for scene in written.landmarks.scenes for name, _ in scene.photographs}
    | set(written.landmarks.textures),
    lambda written: {path.read_bytes() for path in (written.folder / "images").iterdir()},
    lambda written: {query.name for query in written.queries},
  ):
    assert held(one) and held(two) and not held(one) & held(two)


def test_no_two_pictures_of_a_collection_are_alike(written):
  contents = [path.read_bytes() for path in (written.folder / "images").iterdir()]
  assert len(set(contents)) == len(contents)
  used = [name for scene in written.landmarks.scenes for name, _ in scene.photographs] + list(written.landmarks.textures)
  assert len(set(used)) == len(used)


def test_pictures_are_jpegs_of_the_three_sizes(written):
  sizes = collections.Counter()
  for path in (written.folder / "images").iterdir():
    with Image.open(path) as image:
      assert (image.format, image.mode) == ("JPEG", "RGB")
      sizes[image.size] += 1
      image.load()
  assert set(sizes) == set(landmarks.SIZES)


def test_the_ground_truth_is_read_back(written):
  queries = read_groundtruth(written.folder / "groundtruth")
  assert queries == written.queries
  known = set(_names(written.landmarks))
  for query in queries:
    assert {query.image, *query.positives, *query.junk} <= known
    assert query.image in query.positives
    assert not any(name.startswith("distractor") for name in (*query.positives, *query.junk))


def test_queries_are_the_first_five_views(written):
  expected = [(f"{scene.name}_{n + 1}", f"{scene.name}_{n:03d}") for scene in written.landmarks.scenes for n in range(5)]
  assert sorted((query.name, query.image) for query in written.queries) == sorted(expected)
  assert landmarks.KINDS[: landmarks.QUERIES] == ("front", "left", "near", "hidden", "pasted")


def test_boxes_are_around_what_is_visible(written):
  boxes = json.loads((written.folder / "groundtruth" / landmarks.BOXES).read_text())
  assert list(boxes) == [name for name in _names(written.landmarks) if not name.startswith("distractor")]
  for name, box in boxes.items():
    with Image.open(written.folder / "images" / f"{name}.jpg") as image:
      assert 0 <= box[0] <= box[2] - 16 and 0 <= box[1] <= box[3] - 16 and box[2] <= image.width and box[3] <= image.height
    rows, columns = np.nonzero(np.asarray(written.pictures[name].seen[name.rsplit("_", 1)[0]].mask) > 127)
    assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  assert all(boxes[query.image] == list(query.box) for query in written.queries)


def test_a_box_follows_the_camera(monkeypatch, tmp_path):
  """Where nothing is in front, it is around the object's corners as the camera lays them, cut off at the frame."""
  views, take = [], landmarks.Camera.take
  monkeypatch.setattr(landmarks.Camera, "take", lambda *view: views.append(view) or take(*view))
  landmarks.write_landmarks(tmp_path, SMALL)
  boxes = json.loads((tmp_path / "groundtruth" / landmarks.BOXES).read_text())
  for name, box in boxes.items():
    scene, number = name.rsplit("_", 1)
    kind = landmarks.KINDS[int(number)]
    camera, subject = views.pop(0)
    if kind in ("pasted", "small"):
      views.pop(0)  # of the host
    assert subject.name == scene
    if kind in ("hidden", "remnant"):
      continue
    left, top, right, bottom = subject.box
    corners = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)])
    x, y, depth = np.linalg.solve(camera._homography(subject.box), corners.T)
    x, y = np.clip(x / depth, 0, camera.size[0]), np.clip(y / depth, 0, camera.size[1])
    # The mask's edge is drawn to the nearest pixel of the photograph, a sharp corner loses a pixel or two.
    np.testing.assert_allclose(box, [x.min(), y.min(), x.max(), y.max()], atol=2.5)
  assert not views


def test_the_lists_follow_the_visible_part(written):
  for query in written.queries:
    scene, expected = query.name.rsplit("_", 1)[0], collections.defaultdict(set)
    for name, picture in written.pictures.items():
      part = _seen_part(picture.seen[scene]) if scene in picture.seen else 0
      expected["good" if part >= 0.75 else "ok" if part >= 0.25 else "junk" if part > 0 else "nothing"].add(name)
    assert set(query.good) == expected["good"]
    assert set(query.ok) == expected["ok"]
    assert set(query.junk) == expected["junk"]
    assert sum(map(len, expected.values())) == len(_names(written.landmarks))


def test_each_landmark_has_enough_of_each(written):
  for query in written.queries:
    scene = query.name.rsplit("_", 1)[0]
    assert len(query.positives) >= 10 and query.ok and query.junk
    own = {name for name in (*query.positives, *query.junk) if name.startswith(f"{scene}_")}
    assert len(own) == len(landmarks.KINDS)  # every view of a landmark counts


def test_kinds_are_seen_as_much_as_they_should_be(written):
  for scene in written.landmarks.scenes:
    part = {kind: _seen_part(written.seen(scene.name, kind)) for kind in landmarks.KINDS}
    for kind in ("front", "left", "right", "pasted", "turned", "dim", "hazy", "coarse", "small"):
      assert part[kind] >= 0.9, (scene.name, kind)
    # 35 to 60 of a hundred are hidden, 80 to 90 of a remnant. A blob hides a part of the box, not of the object, which fills
    # a little less of it; "near" cuts off what is beyond the frame.
    assert 0.25 <= part["hidden"] < 0.75 and 0 < part["remnant"] < 0.25 and 0.25 <= part["near"] < 0.75


def test_what_is_pasted_is_a_part_of_another_scene(written):
  scenes, hosts = {scene.name for scene in written.landmarks.scenes}, collections.Counter()
  listed = collections.defaultdict(set)
  for query in written.queries:
    for name in (*query.positives, *query.junk):
      listed[name].add(query.name.rsplit("_", 1)[0])
  for scene in scenes:
    for kind in ("pasted", "small"):
      picture = written.pictures[written.name(scene, kind)]
      assert len(picture.seen) == 2 and scene in picture.seen and set(picture.seen) <= scenes
      assert listed[written.name(scene, kind)] == set(picture.seen)  # it answers the host's queries, too
      (host,) = set(picture.seen) - {scene}
      hosts[host] += 1
      inner, outer = (np.asarray(picture.seen[name].mask) > 127 for name in (scene, host))
      # In front, not beside: the host is around it, and the two share no more than the soft edge.
      assert np.count_nonzero(inner & outer) <= 0.02 * np.count_nonzero(inner)
      assert np.count_nonzero(inner) < 0.5 * inner.size
    others = set(landmarks.KINDS) - {"pasted", "small"}
    assert all(set(written.pictures[written.name(scene, kind)].seen) == {scene} for kind in others)
  assert set(hosts) == scenes
  assert all(not written.pictures[name].seen for name in written.pictures if name.startswith("distractor"))


def test_sides_differ_as_a_change_of_viewpoint_does(written):
  for scene in written.landmarks.scenes:
    left, top, right, bottom = scene.photographs[0][1]
    if right - left < (bottom - top) / 2:
      continue  # so narrow that its two sides are hardly apart

    def ratio(kind, name=scene.name):
      seen = written.seen(name, kind)
      start, _, end, _ = seen.box
      heights = (np.asarray(seen.mask) > 127).sum(axis=0)
      return heights[round(0.75 * start + 0.25 * end)] / heights[round(0.25 * start + 0.75 * end)]

    # The far side is a tenth shorter or more between the quarters of the object.
    assert ratio("left") < 0.9 and ratio("right") > 1.1, scene.name


def test_a_turned_object_fills_less_of_its_box(written):
  def fill(scene, kind):
    seen = written.seen(scene, kind)
    left, top, right, bottom = seen.box
    return np.count_nonzero(np.asarray(seen.mask) > 127) / ((right - left) * (bottom - top))

  for scene in written.landmarks.scenes:
    assert fill(scene.name, "turned") < 0.75 < 0.85 < fill(scene.name, "front")


def test_scale_changes(written):
  for scene in written.landmarks.scenes:
    areas = {kind: written.seen(scene.name, kind).area for kind in landmarks.KINDS}
    assert areas["near"] > 2 * areas["front"] and areas["front"] > 1.5 * areas["pasted"] and areas["pasted"] > areas["small"]


def test_light_and_compression_change(written):
  for scene in written.landmarks.scenes:
    mean = {kind: np.asarray(written.open(scene.name, kind), np.float64).mean() for kind in ("dim", "front", "hazy")}
    assert 2 * mean["dim"] < mean["front"] < 0.8 * mean["hazy"], scene.name
    steps = {kind: sum(written.open(scene.name, kind).quantization[0]) for kind in landmarks.KINDS}
    assert steps["coarse"] > 2 * max(step for kind, step in steps.items() if kind != "coarse")
    assert len(set(steps.values())) >= 5


def test_the_object_is_where_its_box_says(written):
  def reduce(image, box):
    pixels = np.asarray(image.convert("L").crop(tuple(map(round, box))).resize((64, 64), Image.Resampling.BOX), np.float64)
    return (pixels - pixels.mean()).ravel() / (pixels.std() * 64)

  names = [scene.name for scene in written.landmarks.scenes]
  photographs = [reduce(open_photograph(name), box) for ((name, box), *_) in (s.photographs for s in written.landmarks.scenes)]
  seen = [reduce(written.open(name, "front"), written.seen(name, "front").box) for name in names]
  correlations = np.asarray(seen) @ np.asarray(photographs).T
  # The box of each front view holds the object that the photograph's box holds, and none other.
  assert (correlations.argmax(axis=1) == np.arange(len(names))).all()
  assert np.median(np.diag(correlations)) > 0.85


def test_both_photographs_of_a_scene_are_used(monkeypatch, tmp_path):
  taken = []
  camera_take = landmarks.Camera.take
  monkeypatch.setattr(landmarks.Camera, "take", lambda camera, subject: taken.append(subject) or camera_take(camera, subject))
  landmarks.write_landmarks(tmp_path, SMALL)
  subjects = {id(subject): subject for subject in taken}
  assert collections.Counter(subject.name for subject in subjects.values()) == {"coffee": 1, "motorcycle": 2}


def test_progress_goes_up_to_the_total(written):
  total = len(_names(written.landmarks))
  assert written.progress == [(done, total) for done in range(1, total + 1)]


def test_a_second_folder_holds_the_same_bytes(small, tmp_path):
  queries = landmarks.write_landmarks(str(tmp_path / "deep" / "er"), SMALL, seed=0)
  assert _files(tmp_path / "deep" / "er") == _files(small)
  assert queries == read_groundtruth(small / "groundtruth")


@pytest.mark.long
def test_a_part_of_a_collection_is_the_same_as_in_the_whole(small, write):
  whole, part = (_files(folder / "images") for folder in (write("toy_oxford").folder, small))
  with_host = {f"{Written.name(scene, kind)}.jpg" for scene in SCENES for kind in ("pasted", "small")}
  assert len(part) == 27 and set(part) < set(whole)
  assert all(part[name] == whole[name] for name in set(part) - with_host)


def test_another_process_writes_the_same_bytes(small, tmp_path):
  program = (
    "import sys; from dataclasses import replace; from cwf_jax.toy.landmarks import TOY_OXFORD, write_landmarks\n"
    f"scenes = tuple(scene for scene in TOY_OXFORD.scenes if scene.name in {SCENES!r})\n"
    f"write_landmarks(sys.argv[1], replace(TOY_OXFORD, scenes=scenes, distractors={SMALL.distractors}))"
  )
  own = os.environ.get("PYTHONHASHSEED", "random")
  environment = {**os.environ, "PYTHONHASHSEED": "4242" if own != "4242" else "4243", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
  subprocess.run([sys.executable, "-c", program, tmp_path], check=True, cwd=ROOT, env=environment, timeout=120)
  assert _files(tmp_path) == _files(small)


def test_another_seed_gives_other_pictures(small, tmp_path):
  landmarks.write_landmarks(tmp_path, SMALL, seed=1)
  one, other = _files(small), _files(tmp_path)
  assert set(one) == set(other)
  assert all(one[name] != other[name] for name in one if name.startswith("images"))
  assert all(query.image in query.positives for query in read_groundtruth(tmp_path / "groundtruth"))


def test_a_second_run_mends_what_is_damaged_and_touches_nothing_else(small, tmp_path):
  expected, damaged = _files(small), "images/coffee_003.jpg"
  lost = {"groundtruth/motorcycle_2_ok.txt", "groundtruth/boxes.json"}  # an older folder has no boxes
  for name, content in expected.items():
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / name, ns=(10**18, 10**18))
  (tmp_path / damaged).write_bytes(expected[damaged][:1000])
  for name in lost:
    (tmp_path / name).unlink()
  foreign = {"notes.txt": b"mine", "images/mine.jpg": b"mine, too", "groundtruth/mine.txt": b"mine", "deep/a/b.jpg": b"x"}
  for name, content in foreign.items():
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / name, ns=(10**18, 10**18))
  landmarks.write_landmarks(tmp_path, SMALL)
  assert _files(tmp_path) == expected | foreign
  again = {name for name in expected | foreign if (tmp_path / name).stat().st_mtime_ns != 10**18}
  assert again == {damaged, *lost}


@pytest.mark.parametrize("missing", ["skimage", "sklearn"])
def test_a_missing_package_is_told_before_anything_is_written(missing, monkeypatch, tmp_path):
  known, calls = importlib.util.find_spec, []
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else known(name, *rest))
  with pytest.raises(InputError, match=rf"come with {missing}, which is not installed: pip install 'cwf_jax\[demo\]'$"):
    landmarks.write_landmarks(tmp_path / "new", SMALL, progress=lambda *numbers: calls.append(numbers))
  assert not (tmp_path / "new").exists() and not calls


def test_boxes_of_objects_lie_in_their_photographs():
  for collection in COLLECTIONS.values():
    for scene in collection.scenes:
      for name, (left, top, right, bottom) in scene.photographs:
        width, height = open_photograph(name).size
        assert 0 <= left < right <= width and 0 <= top < bottom <= height, name
