"""`--mode=evaluate` on a folder with a JSON of its own, and every call that is refused."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cwf_jax.cli import evaluate
from cwf_jax.systems import system as systems
from cwf_jax.systems.settings import list_settings
from tests.cli.test_evaluate import ROWS


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
  """A folder of nine pictures, three of each of three things, and its ground truth."""
  folder = tmp_path_factory.mktemp("shop")
  (folder / "images").mkdir()
  names = [f"{thing}_{view}.png" for thing in "abc" for view in range(3)]
  for number, name in enumerate(names):
    blocks = np.random.default_rng(number // 3).integers(0, 256, (4, 4, 3), np.uint8)
    picture = Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST)
    picture.transform((64, 64), Image.Transform.AFFINE, (1, 0, number % 3, 0, 1, 0)).save(folder / "images" / name)
  answers = {thing: {"relevant": [f"{thing}_{view}.png" for view in (1, 2)], "junk": [f"{thing}_0.png"]} for thing in "abc"}
  queries = {f"{thing}_0.png": answer for thing, answer in answers.items()}
  (folder / "truth.json").write_text(json.dumps({"database": names, "queries": queries}))
  return folder


def _shop_flags(shop, tiny_checkpoint, output, truth="truth.json"):
  paths = (f"--images={shop / 'images'}", f"--groundtruth={shop / truth}", f"--output={output}")
  return ("--mode=evaluate", "--dataset=folder", *paths, f"--weights={tiny_checkpoint}", "--image_size=64")


def test_a_folder_with_a_json_is_evaluated(shop, tiny_checkpoint, tmp_path, cli):
  flags = _shop_flags(shop, tiny_checkpoint, tmp_path)
  found = cli(*flags, "--systems=raw,rmac,ona", "--whitening=none")
  assert found.code == 0, found.err
  lines = found.out.splitlines()
  assert [line.split() for line in lines[1:5]] == [
    ["raw@tiny", "1.000", "32", "dimensions"],
    ["raw+pca@tiny", "not", "run:", "nothing", "is", "whitened"],
    ["rmac@tiny", "1.000", "(not", "whitened)", "32", "dimensions"],
    ["ona@tiny", "1.000", "(not", "whitened)", "32", "dimensions"],
  ]


def test_dimensions_are_a_flag_and_a_cap_is_shown(shop, tiny_checkpoint, tmp_path, cli):
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=raw", "--whitening=folder")
  line = cli(*flags).out.splitlines()[2]
  assert line.startswith("  raw+pca@tiny  ") and line.endswith("  3 dimensions, capped by 9 vectors (3 for each)")
  found = cli(*flags, "--dimensions=2", "--set=dimensions=2")
  assert found.out.splitlines()[2].endswith("  2 dimensions")
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["changed_settings"] == {"dimensions": 2} and results["systems"]["raw+pca@tiny"]["dimensions"] == 2


def test_what_cannot_be_whitened_says_why(shop, tiny_checkpoint, tmp_path, cli):
  found = cli(*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=raw,rmac,ofa")
  assert found.code == 0, found.err
  assert "rmac@tiny     not run: the checkpoint has no whitening" in found.out
  assert "ofa@tiny      not run: the checkpoint has no whitening" in found.out
  found = cli(*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=raw,ofa", f"--whitening={shop / 'images' / 'a_0.png'}")
  assert found.code == 2 and "is neither a folder nor a list" in found.err


def test_an_evaluation_without_a_row_fails(shop, tiny_checkpoint, tmp_path, cli):
  found = cli(*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=rmac,ofa")
  assert found.code == 1 and found.out.splitlines()[0] == "folder: no row was run"
  assert found.err.splitlines()[-1] == "cwf_jax: no row was run: the checkpoint has no whitening: whiten by other images"
  assert "not run: the checkpoint has no whitening" in (tmp_path / "report.md").read_text()


def test_runs_without_a_row_in_common_have_no_difference(shop, tiny_checkpoint, tmp_path, cli):
  there, here = tmp_path / "there", tmp_path / "here"
  cli(*_shop_flags(shop, tiny_checkpoint, there), "--systems=mac", "--whitening=none")
  flags = (*_shop_flags(shop, tiny_checkpoint, here), "--whitening=none", f"--against={there}")
  lines = cli(*flags, "--systems=rmac").out.splitlines()
  assert lines[2:-1] == [
    f"folder, less the rows of {there}: nothing to compare, no row was run in both",
    "  only here: rmac@tiny",
    "  only there: mac@tiny",
  ]


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--dataset is missing"),
    (["--dataset=toy_oxford"], "--output is missing"),
    (["--dataset=oxford5k", "--output=OUT"], "--data_dir is missing, the folder that holds oxford5k/"),
    (["--dataset=atlantis", "--output=OUT"], "no data set is named atlantis (--dataset takes oxford5k, paris6k"),
    (["--dataset=toy_oxfrod", "--output=OUT"], "no data set is named toy_oxfrod; did you mean toy_oxford? ("),
    (["--dataset=folder", "--output=OUT"], "--dataset=folder needs --images and --groundtruth"),
    (["--dataset=toy_oxford", "--output=OUT", "--images=."], "--images and --groundtruth are for --dataset=folder"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=raw,atlas"], "--systems knows no atlas; there are raw,"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=raw,macc,"], "fixed; did you mean mac?"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=crow+qe10"], "--systems=crow+qe10: the report has this row, but this"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=,"], "--systems names none; there are raw,"),
    (["--dataset=toy_oxford", "--output=OUT", "--whitening=/absent"], "--whitening=/absent is neither other, bundled, none, a"),
    (["--dataset=toy_oxford", "--output=OUT", "--against=OUT"], "--against is the --output folder itself"),
    (["--dataset=toy_oxford", "--output=OUT", "--num_classes=3", "--set=num_classes=4"], "--num_classes=3 and --set=num_cl"),
    (["--dataset=toy_oxford", "--output=OUT", "--dimensions=3", "--set=dimensions=4"], "--dimensions=3 and --set=dimensions=4"),
    (["--dataset=toy_oxford", "--output=OUT", "--dimensions=0"], "--dimensions takes a whole number of at least 1"),
    (["--dataset=toy_oxford", "--output=OUT", "--set=seed=1", "--set=seed=2"], "--set=seed is given twice: 1 and 2"),
    (["--dataset=toy_oxford", "--output=/dev/null/x"], "--output=/dev/null/x cannot be a folder: /dev/null is a file"),
    (["--dataset=toy_oxford", "--output=OUT", "--vectors=/dev/null"], "--vectors=/dev/null is a file, not a folder"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=OFA"], "did you mean ofa?"),
    (["--dataset=toy_oxford", "--output=OUT", "--systems=ofa", "--classes=0"], "--classes is for the system fixed, which"),
    (["--dataset=folder", "--output=OUT", "--whitening=toy_paris"], "--whitening=toy_paris is a set, which needs --data_dir"),
    (["--dataset=oxford5k", "--output=OUT", "--data_dir=/absent"], "--data_dir=/absent is no folder that is there"),
    (["--dataset=toy_oxford", "--output=OUT", "--set=tie=by_row"], "there is no setting 'tie' (there are size_rule, "),
    (["--dataset=toy_oxford", "--output=OUT", "--set=ties"], "--set is NAME=VALUE; found 'ties'"),
    (["--dataset=toy_oxford", "--output=OUT", "--set=ties=no"], "ties is one of shuffled, by_row, reversed; found 'no'"),
    (["--dataset=toy_oxford", "--output=OUT", "--set=knots=1"], "there is no setting 'knots'"),
    (["--dataset=oxford5k", "--output=OUT", "--data_dir=/absent"], "absent"),
    (["--dataset=toy_oxford", "--output=OUT", "--vectors="], "--vectors is empty"),
    (["--dataset=toy_oxford", "--output=OUT", "--whitening="], "--whitening is empty"),
    (["--dataset=toy_oxford", "--output=OUT", "--whitening=oxford5k"], "--whitening=oxford5k is a set, which needs --data_dir"),
    (["--dataset=flickr100k", "--output=OUT", "--data_dir=/absent"], "Flickr100k has no queries of its own"),
    (["--dataset=toy_oxford", "--output=OUT", "--index=x"], "there is no flag --index"),
  ],
)
def test_wrong_calls_are_refused(arguments, said, tmp_path, refused):
  output = tmp_path / "out"
  assert said in refused("--mode=evaluate", *(argument.replace("OUT", str(output)) for argument in arguments))
  assert not output.exists()


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda truth: truth["queries"]["a_0.png"]["relevant"].append("nowhere.png"), "not in the database: nowhere.png"),
    (lambda truth: truth["database"].append("nowhere.png"), "1 image that its ground truth names is not there: nowhere.png"),
  ],
)
def test_ground_truth_of_absent_images_is_refused(change, said, shop, tiny_checkpoint, tmp_path, refused):
  truth = json.loads((shop / "truth.json").read_text())
  change(truth)
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  flags = _shop_flags(shop, tiny_checkpoint, tmp_path / "out")
  assert said in refused(*flags, f"--groundtruth={tmp_path / 'truth.json'}")


def test_every_bad_file_is_in_one_report(shop, tiny_checkpoint, tmp_path, refused, cli):
  shutil.copytree(shop, tmp_path / "shop")
  for name in ("a_1.png", "c_2.png"):
    content = (shop / "images" / name).read_bytes()
    (tmp_path / "shop/images" / name).write_bytes(content[: len(content) // 2])
  (tmp_path / "shop/images/b_0.png").unlink()
  line = refused(*_shop_flags(tmp_path / "shop", tiny_checkpoint, tmp_path / "out"))
  assert all(name in line for name in ("a_1.png", "b_0.png", "c_2.png"))
  assert line.endswith(f"(all of it: {tmp_path / 'out' / 'problems.txt'})")
  assert (tmp_path / "out/problems.txt").read_text().splitlines() == [
    "1 image that its ground truth names is not there",
    "  b_0.png",
    "2 images cannot be read",
    *(f"  {name}: truncated" for name in ("a_1.png", "c_2.png")),
  ]
  for name in ("a_1.png", "b_0.png", "c_2.png"):
    shutil.copy(shop / "images" / name, tmp_path / "shop/images" / name)
  assert cli(*_shop_flags(tmp_path / "shop", tiny_checkpoint, tmp_path / "out"), "--systems=raw", "--whitening=none").code == 0
  assert not (tmp_path / "out/problems.txt").exists()


def test_files_that_nothing_names_do_not_matter(shop, tiny_checkpoint, tmp_path, refused):
  shutil.copytree(shop, tmp_path / "shop")
  (tmp_path / "shop/images/other.png").write_bytes(b"no image")
  (tmp_path / "shop/images/b_0.png").unlink()
  line = refused(*_shop_flags(tmp_path / "shop", tiny_checkpoint, tmp_path / "out"))
  assert "is not there: b_0.png" in line and "other.png" not in line


def test_what_may_be_meant_otherwise_is_remarked_upon(shop, tiny_checkpoint, tmp_path, cli):
  truth = json.loads((shop / "truth.json").read_text())
  del truth["queries"]["b_0.png"]["junk"]
  truth["queries"]["c_0.png"]["box"] = [-20, 0, 64, 64]
  truth["queries"]["a_0.png"]["box"] = [0, -3, 64, 64]
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path / "out"), f"--groundtruth={tmp_path / 'truth.json'}")
  found = cli(*flags, "--systems=raw", "--whitening=none")
  own = "1 query is an image of the database and neither relevant nor junk, so that its own image counts as a wrong answer"
  own += ": b_0.png"
  cut = "1 box of a query lies by more than a tenth outside the image, and is cut: the query c_0.png in c_0.png"
  assert found.code == 0 and found.err.splitlines()[-2:] == [cut, own]
  assert f"| remarks | {cut}; {own} |" in (tmp_path / "out/report.md").read_text()


def test_all_that_is_wrong_with_the_flags_is_told_at_once(tmp_path, refused):
  flags = ("--dataset=folder", "--systems=rmax", "--set=ties=no", "--set=knots", "--set=seed=x")
  line = refused("--mode=evaluate", *flags, f"--output={tmp_path / 'out'}")
  for told in ("needs --images", "knows no rmax", "did you mean rmac?", "ties is one of", "found 'knots'", "seed is a whole"):
    assert told in line


def test_more_classes_than_the_network_has_are_refused(shop, tiny_checkpoint, tmp_path, refused, cli):
  flags = _shop_flags(shop, tiny_checkpoint, tmp_path / "out")
  line = refused(*flags, "--num_classes=11", "--set=n_pca=12", "--set=fixed_classes=10")
  assert line.endswith("the network has 10 classes; num_classes=11 and n_pca=12 asks for more")
  # Those of a preset are all that there are.
  assert cli(*flags, "--systems=ona", "--whitening=none").code == 0
  assert "10 classes), sha256" in (tmp_path / "out/report.md").read_text()


def test_queries_without_a_positive_leave_the_mean(shop, tiny_checkpoint, tmp_path, cli):
  truth = json.loads((shop / "truth.json").read_text())
  truth["queries"]["b_0.png"]["relevant"] = []
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  flags = _shop_flags(shop, tiny_checkpoint, tmp_path / "out")
  flags = (*flags, f"--groundtruth={tmp_path / 'truth.json'}", "--systems=raw", "--whitening=none")
  assert cli(*flags).out.splitlines()[:2] == [
    "folder: mAP of 2 of 3 queries", "  raw@tiny      1.000  32 dimensions"
  ]  # fmt: skip
  left_out = "mAP, of 2 of 3 queries: without these, for which there is no image that should be found: b_0.png."
  assert left_out in (tmp_path / "out/report.md").read_text()
  row = json.loads((tmp_path / "out/results.json").read_text())["systems"]["raw@tiny"]
  assert row["per_query"] == {"a_0.png": 1.0, "b_0.png": None, "c_0.png": 1.0} and row["map"] == 1.0
  for query in truth["queries"].values():
    query["relevant"] = []
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  assert cli(*flags).out.splitlines()[:2] == [
    "folder: mAP of 0 of 3 queries", "  raw@tiny      no query has a positive  32 dimensions"
  ]  # fmt: skip


@pytest.mark.parametrize(
  "content",
  ["[]", "{", *(f'{{"dataset": "{name}", "systems": {{}}, "head": {{}}, "settings": {{}}}}' for name in ("folder", "paris6k"))],
)
def test_results_of_something_else_are_refused(content, shop, tiny_checkpoint, tmp_path, cli):
  (tmp_path / "other").mkdir()
  (tmp_path / "other/results.json").write_text(content)
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path / "out"), "--systems=raw", "--whitening=none")
  found = cli(*flags, f"--against={tmp_path / 'other'}")
  expected = 0 if content.startswith('{"dataset": "folder"') else 2
  assert found.code == expected and ("results.json" in found.err) == (expected == 2), found


def test_systems_that_the_table_knows_are_all_there():
  assert {name for name in ROWS if not name.endswith("+pca")} == set(systems.SYSTEMS)


def test_the_help_names_every_setting():
  text = evaluate.EXAMPLES
  assert [field.name for field in list_settings() if field.name not in text] == []


def test_a_folder_whitens_itself_only_by_name(shop, tiny_checkpoint, tmp_path, cli, refused):
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=raw")
  assert "say --whitening=folder to whiten by that set all the same" in refused(*flags, f"--whitening={shop / 'images'}")
  found = cli(*flags, "--whitening=folder")
  assert found.code == 0, found.err
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["systems"]["raw+pca@tiny"]["vectors"] == 9
  assert "9 images of folder" in results["head"]["whitening"] and "itself, as asked for" in results["head"]["whitening"]


def test_paths_that_are_not_utf_8(shop, tiny_checkpoint, tmp_path, cli):
  output = tmp_path / os.fsdecode(b"out\xfe")
  found = cli(*_shop_flags(shop, tiny_checkpoint, output), "--systems=raw", "--whitening=none")
  assert found.code == 0 and found.out.endswith("out\\udcfe/report.md\n"), found.err
  other = tmp_path / os.fsdecode(b"other\xfe")
  found = cli(*_shop_flags(shop, tiny_checkpoint, other), "--systems=raw", "--whitening=none", f"--against={output}")
  assert found.code == 0 and "less the rows of " in (other / "report.md").read_text(), found.err


def test_files_that_are_not_the_mode_s_own_stay(shop, tiny_checkpoint, tmp_path, cli):
  (tmp_path / "per_query_mine.csv").touch()
  (tmp_path / "per_query_oxford105k.csv").touch()
  assert cli(*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=raw", "--whitening=none").code == 0
  assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["per_query.csv", "per_query_mine.csv"]


def test_a_working_directory_that_is_gone_is_told_first(shop, tiny_checkpoint, tmp_path, refused, monkeypatch):
  (tmp_path / "gone").mkdir()
  monkeypatch.chdir(tmp_path / "gone")
  (tmp_path / "gone").rmdir()
  line = refused(*_shop_flags(shop, tiny_checkpoint, tmp_path / "out"), "--systems=raw")
  assert "the working directory is gone" in line and not (tmp_path / "out").exists()


def test_boxes_outside_their_images_are_all_told(shop, tiny_checkpoint, tmp_path, refused):
  truth = json.loads((shop / "truth.json").read_text())
  truth["queries"]["a_0.png"]["box"] = [100, 100, 164, 164]
  truth["queries"]["b_0.png"]["box"] = [0, 0, 9, 64]
  truth["queries"]["c_0.png"]["box"] = [0, 0, 65, 64]  # a pixel beyond the edge is cut off
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  line = refused(*_shop_flags(shop, tiny_checkpoint, tmp_path / "out"), f"--groundtruth={tmp_path / 'truth.json'}")
  assert "the query a_0.png in a_0.png: the box" in line and "the query b_0.png in b_0.png: the box" in line
  assert "a_0.png: the box 100,100,164,164 lies outside the image, which has 64x64 pixels" in line
  assert "c_0.png" not in line


def test_boxes_that_are_none_as_a_system_reads_them_are_told_before_any_pass(shop, tiny_checkpoint, tmp_path, refused, cli):
  truth = json.loads((shop / "truth.json").read_text())
  truth["queries"]["a_0.png"]["box"] = [-20, 0, 30, 64]  # by width and height, no more than ten pixels of it are inside
  (tmp_path / "truth.json").write_text(json.dumps(truth))
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path / "out"), f"--groundtruth={tmp_path / 'truth.json'}")
  flags = (*flags, "--whitening=none")
  line = refused(*flags, "--protocol=reference", "--systems=raw,ucrow,crow")
  assert "1 box cannot be searched for" in line and "the query a_0.png in a_0.png: " in line
  assert "as the setting crow_box=size has ucrow and crow read it" in line
  assert not (tmp_path / "out/vectors").exists()
  assert cli(*flags, "--protocol=reference", "--systems=raw").code == 0
  assert cli(*flags, "--systems=crow").code == 0


def test_sizes_that_some_system_cannot_have_are_told_first(shop, tiny_checkpoint, tmp_path, refused):
  flags = _shop_flags(shop, tiny_checkpoint, tmp_path / "out")
  line = refused(*flags, "--image_size=3000", "--systems=raw,mac")
  assert "--image_size=3000 stands where the paper has 720, and the images of mac are in proportion: image_size is a" in line
  assert not (tmp_path / "out").exists()


def test_a_call_that_ends_before_it_writes_leaves_no_folder(tiny_checkpoint, tmp_path, refused):
  flags = ("--mode=evaluate", "--dataset=toy_oxford", f"--data_dir={tmp_path}", f"--weights={tiny_checkpoint}")
  assert "toy_oxford" in refused(*flags, f"--output={tmp_path / 'deep/out'}") and not (tmp_path / "deep").exists()


def test_another_function_under_a_system_s_name_is_computed_anew(shop, tiny_checkpoint, tmp_path, cli, monkeypatch):
  flags = (*_shop_flags(shop, tiny_checkpoint, tmp_path), "--systems=mean", "--whitening=none")

  def pool_mean(seen):
    return systems.pool_gem(seen.features, seen.mask, exponent=1.0)

  def pool_nothing(seen):
    return 0 * systems.pool_raw(seen)

  values = []
  for pool in (pool_mean, pool_nothing):
    one = systems.System("mean pooling", "any", "last", systems.PAPER, systems.CELLS, pool)
    monkeypatch.setitem(systems.SYSTEMS, "mean", one)
    assert cli(*flags).code == 0
    values.append(json.loads((tmp_path / "results.json").read_text())["systems"]["mean@tiny"])
  assert values[0]["zero"] == 0 and values[1]["zero"] == 9 and len(values[1]["odd"]) == 5
  report = (tmp_path / "report.md").read_text()
  assert "## Other systems" in report and "| mean pooling | `mean@tiny` |" in report
  assert "`mean@tiny`: 9 zero, 3 of queries (a_0.png, a_1.png, a_2.png, b_0.png, b_1.png and more)" in report
