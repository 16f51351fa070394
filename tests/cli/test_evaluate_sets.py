"""`--mode=evaluate` on small stand-ins of the revisited sets, Holidays and UKBench, from files to report."""

import csv
import dataclasses
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from cwf_jax.datasets import catalogue

THINGS = 4


def _draw(path, thing, view):
  """A picture of a thing, a little moved from view to view: all views of it come before all others."""
  blocks = np.random.default_rng(thing).integers(0, 256, (4, 4, 3), np.uint8)
  picture = Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST)
  path.parent.mkdir(parents=True, exist_ok=True)
  picture.transform((64, 64), Image.Transform.AFFINE, (1, 0, view, 0, 1, 0)).save(path)


@pytest.fixture
def evaluate(tmp_path, tiny_checkpoint, cli, monkeypatch):
  """Evaluates a set of that name whose images may be any."""

  def run(name, *more):
    if name != "ukbench":  # of which a part will do
      known = dataclasses.replace(catalogue.KNOWN[name], images=None, names_sha256=None)
      monkeypatch.setattr(catalogue, "KNOWN", {**catalogue.KNOWN, name: known})
    flags = ("--mode=evaluate", f"--dataset={name}", f"--data_dir={tmp_path}", "--image_size=64")
    flags = (*flags, f"--weights={tiny_checkpoint}", f"--output={tmp_path / 'out'}")
    found = cli(*flags, "--systems=raw,mac,ona", "--whitening=none", *more)
    assert found.code == 0, found.err
    run.err = found.err
    return found.out, json.loads((tmp_path / "out/results.json").read_text())

  return run


def test_the_revisited_sets(tmp_path, evaluate):
  database = [f"{thing}_{view}" for thing in range(THINGS) for view in range(4)]
  queries = [f"query_{thing}" for thing in range(THINGS)]
  for name in database:
    _draw(tmp_path / f"roxford5k/images/{name}.jpg", *map(int, name.split("_")))
  for thing, name in enumerate(queries):
    _draw(tmp_path / f"roxford5k/images/{name}.jpg", thing, 1)
  answers = [
    {"bbx": [0, 0, 64, 64], "easy": [4 * thing, 4 * thing + 1], "hard": [4 * thing + 2], "junk": [4 * thing + 3]}
    for thing in range(THINGS)
  ]
  answers[0] |= {"easy": [], "junk": [0, 1, 3]}  # it leaves the mean of Easy
  (tmp_path / "roxford5k/groundtruth").mkdir()
  content = {"imlist": database, "qimlist": queries, "gnd": answers}
  (tmp_path / "roxford5k/groundtruth/gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
  out, results = evaluate("roxford5k", "--distractors=none")
  assert out.splitlines()[0] == "ROxford5k: mAP Medium / mAP Easy of 3 of 4 queries / mAP Hard"
  assert out.splitlines()[1] == "  raw@tiny      1.000 / 1.000 / 1.000  32 dimensions"
  metrics = results["systems"]["mac@tiny"]["metrics"]
  measures = ("mAP", "mP@1", "mP@5", "mP@10")
  assert list(metrics) == [f"{what} {level}" for level in ("Medium", "Easy", "Hard") for what in measures]
  assert set(metrics.values()) == {1.0}
  lines = list(csv.DictReader((tmp_path / "out/per_query.csv").read_text().splitlines()))
  assert [line["query"] for line in lines] == queries
  assert [line["raw@tiny mAP Easy"] for line in lines] == ["", "1.0", "1.0", "1.0"]


def test_holidays(tmp_path, evaluate):
  for thing in range(THINGS):
    for view in range(2 + thing % 2):
      _draw(tmp_path / f"holidays/images/jpg/{100000 + 100 * thing + view}.jpg", thing, view)
  out, results = evaluate("holidays")
  assert out.splitlines()[:2] == ["Holidays: mAP", "  raw@tiny      1.000  32 dimensions"]
  assert list(results["systems"]["ona@tiny"]["per_query"]) == [f"{100000 + 100 * thing}.jpg" for thing in range(THINGS)]


def test_what_is_wrong_with_names_is_told_with_the_rest(tmp_path, tiny_checkpoint, refused):
  for name in ("100000", "100001", "100101", "other"):
    _draw(tmp_path / f"holidays/images/{name}.jpg", 0, 0)
  (tmp_path / "holidays/images/100001.jpg").write_bytes(b"damaged")
  flags = ("--mode=evaluate", "--dataset=holidays", f"--data_dir={tmp_path}", f"--weights={tiny_checkpoint}")
  assert "1 name is not of Holidays" in refused(*flags, f"--output={tmp_path / 'out'}")
  assert (tmp_path / "out/problems.txt").read_text().splitlines() == [
    "Holidays has 1,491 images; found 4, 1,487 too few",
    "1 name is not of Holidays, 100000.jpg and so on",
    "  other.jpg",
    "1 group lacks its query",
    "  100100.jpg (of 100101.jpg)",
    "1 image cannot be read",
    "  100001.jpg: not an image",
  ]


def test_ukbench(tmp_path, evaluate):
  for number in range(4 * THINGS):
    _draw(tmp_path / f"ukbench/images/ukbench{number:05d}.jpg", number // 4, number % 4)
  out, results = evaluate("ukbench")
  assert out.splitlines()[:2] == ["UKBench: N-S", "  raw@tiny      4.00  32 dimensions"]
  part = "16 of the 10,200 queries of UKBench are here: published values are of all of them, and a part is easier"
  assert results["head"]["remarks"] == part and part in evaluate.err
  assert set(results["systems"]["ona@tiny"]["per_query"].values()) == {4.0}
