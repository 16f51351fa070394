"""`--mode=index` from the call to the last line, interrupted, refused, and on a full disk."""

import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cwf_jax.index.store import Index, open_index

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def images(photographs, tmp_path):
  return shutil.copytree(photographs, tmp_path / "images")


@pytest.fixture
def where(images, tiny_checkpoint, tmp_path):
  """The flags of a first run."""
  return ("--mode=index", f"--images={images}", f"--index={tmp_path / 'i'}", f"--weights={tiny_checkpoint}", "--num_classes=4")


def _last(found):
  return found.out.splitlines()[-1]


def test_the_last_line_counts(cli, where, images, tmp_path):
  folder = tmp_path / "i"
  (images / "broken.jpg").write_bytes(b"nothing")
  first = cli(*where)
  assert first == (0, f"12 indexed, 0 unchanged, 0 moved, 0 removed, 1 skipped; 12 images in {folder}\n", first.err)
  assert "skipped broken.jpg: " in first.err and "whitening: none" in first.err and "random" not in first.err
  again = cli(*where)
  assert _last(again) == f"0 indexed, 12 unchanged, 0 moved, 0 removed, 1 skipped; 12 images in {folder}"
  (images / "a/picture_00.png").unlink()
  Image.new("RGB", (64, 64), "red").save(images / "a/picture_01.png")
  Image.new("RGB", (64, 64), "blue").save(images / "new.png")
  changed = cli("--mode=index", f"--images={images}", f"--index={folder}")
  assert _last(changed) == f"2 indexed, 10 unchanged, 0 moved, 1 removed, 1 skipped; 12 images in {folder}"


def test_warnings_of_pillow_are_not_shown(cli, where, images):
  Image.new("RGB", (64, 64), "red").save(images / "exif.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
  with warnings.catch_warnings(record=True, action="always") as caught:
    assert cli(*where).out.startswith("13 indexed, ")
  assert not [warning for warning in caught if "EXIF" in str(warning.message)]


def test_random_weights_are_told(cli, photographs, tmp_path):
  (tmp_path / "list.txt").write_text(f"{photographs}/a/picture_00.png")
  where = ("--mode=index", f"--images={tmp_path / 'list.txt'}", f"--index={tmp_path / 'r'}", "--image_size=32")
  found = cli(*where, "--weights=random:vgg16_cam_quarter")
  assert found.code == 0 and "the weights are random, so the names of classes mean nothing" in found.err


def test_the_same_call_agrees_with_its_own_index(cli, where):
  """More classes than the network has are all of them, both times."""
  flags = ("--num_classes=2000", "--store_classes=2000", "--whitening=self", "--n_pca=2", "--dimensions=4")
  flags = (*flags, "--keep_raw", "--image_size=64")
  for _ in range(2):
    found = cli(*where, *flags)
    assert found.code == 0, found.err


def test_quiet_is_quiet_and_the_log_file_keeps_the_remarks(cli, where, images, tmp_path):
  (images / "broken.jpg").write_bytes(b"nothing")
  found = cli(*where, "--quiet", f"--log_file={tmp_path / 'log'}")
  assert (found.code, found.err) == (0, "")
  log = (tmp_path / "log").read_text()
  assert "skipped broken.jpg: " in log and "whitening: none" in log and "cwf_jax 0" in log


def test_many_skipped_files_are_told_in_the_log_file(cli, where, images, tmp_path):
  for number in range(30):
    (images / f"broken_{number:02d}.jpg").write_bytes(b"nothing")
  found = cli(*where, f"--log_file={tmp_path / 'log'}")
  assert found.err.count("skipped broken_") == 20 and "and 10 more; --log_file=FILE keeps all of them" in found.err
  assert (tmp_path / "log").read_text().count("skipped broken_") == 30


def test_no_readable_image_is_a_failure(cli, where, images):
  for path in images.rglob("*.png"):
    path.write_bytes(b"nothing")
  found = cli(*where)
  assert found.code == 1
  assert _last(found).startswith("0 indexed, 0 unchanged, 0 moved, 0 removed, 12 skipped; 0 images in ")
  assert found.err.splitlines()[-1] == "cwf_jax: none of the 12 files could be read"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--index=TMP/i"], "--mode=index needs --images=PATH"),
    (["--images=IMAGES"], "--mode=index needs --index=PATH"),
    (["--images=TMP/missing", "--index=TMP/i"], "there is no file or folder"),
    (["--images=TMP/empty", "--index=TMP/i"], "there are no images in"),
    (["--images=IMAGES/a/picture_00.png", "--index=TMP/i"], "neither a folder nor a list"),
    (["--images=IMAGES", "--index=TMP/file"], "is a file"),
    (["--images=IMAGES", "--index=IMAGES"], "neither empty nor an index"),
    (["--images=IMAGES", "--index=TMP/i", "--weights=TMP/empty"], "empty"),
    (["--images=IMAGES", "--index=TMP/i", "--weights=random:vgg17"], "vgg17"),
    (["--images=IMAGES", "--index=TMP/i", "--whitening=bundled", "--weights=random:vgg16_cam_quarter"], "without a whitening"),
    (["--images=IMAGES", "--index=TMP/i", "--whitening=TMP/missing"], "there is no index at"),
    (["--images=IMAGES", "--index=TMP/i", "--store_classes=-1"], "--store_classes"),
    (["--images=IMAGES", "--index=TMP/i", "--store_classes=nosuch"], "no class is named 'nosuch'"),
    (["--images=IMAGES", "--index=TMP/i", "--n_pca=5000"], "--n_pca"),
    (["--images=IMAGES", "--index=TMP/i", "--batch_size=0"], "--batch_size takes a whole number of at least 1"),
    (["--images=IMAGES", "--index=TMP/i", "--log_file=TMP/no/log"], "--log_file=TMP/no/log cannot be written: No such"),
    (["--images=IMAGES", "--index=TMP/i", "--log_file=TMP"], "cannot be written: Is a directory"),
  ],
)
def test_a_wrong_call_is_one_line(refused, images, tmp_path, arguments, said):
  (tmp_path / "empty").mkdir()
  (tmp_path / "file").write_text("")
  known = {"IMAGES": images, "TMP": tmp_path}
  for name, path in known.items():
    arguments = [argument.replace(name, str(path)) for argument in arguments]
    said = said.replace(name, str(path))
  line = refused("--mode=index", *arguments)
  assert said in line
  assert not (tmp_path / "i" / "images.lance").exists()


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("--image_size=96", "--image_size=96, but its own is 64"),
    ("--protocol=reference", "--protocol=reference, but its own is paper"),
    ("--feature_map=last", "--feature_map=last, but its own is stride16"),
    ("--num_classes=5", "--num_classes=5, but its own is 4"),
    ("--weights=random:vgg16_cam_quarter", "--weights=random:vgg16_cam_quarter, but it has those of"),
    ("--whitening=self", "whitening is none, not self"),
    ("--store_classes=all", "10 an image; not: all"),
    ("--keep_raw", "--keep_raw"),
  ],
)
def test_a_flag_that_disagrees_with_the_index_is_refused_with_both_named(cli, refused, where, images, tmp_path, flag, said):
  if not (tmp_path / "i").exists():
    assert cli(*where).code == 0
  line = refused("--mode=index", f"--images={images}", f"--index={tmp_path / 'i'}", flag)
  assert said in line and str(tmp_path / "i") in line


def test_a_second_folder_needs_a_prefix(cli, refused, where, photographs, tmp_path):
  assert cli(*where).code == 0
  other = ("--mode=index", f"--images={photographs}/a", f"--index={tmp_path / 'i'}")
  assert "--prefix" in refused(*other)
  assert _last(cli(*other, "--prefix=more/")).startswith("6 indexed, 0 unchanged, 0 moved, 0 removed, 0 skipped; 18 images")


def test_a_folder_that_is_away_is_kept_and_ends_with_1(cli, where, images, tmp_path):
  assert cli(*where).code == 0
  images.rename(tmp_path / "away")
  (images / "a").mkdir(parents=True)
  (tmp_path / "away/a/picture_00.png").rename(images / "a/picture_00.png")
  found = cli(*where)
  assert found.code == 1 and "0 indexed, 1 unchanged, 0 moved, 0 removed, 0 skipped; 12 images in" in found.out
  assert "11 images of the index are not among these files, such as a/picture_01.png" in found.err.splitlines()[-1]
  assert "--remove removes them" in found.err.splitlines()[-1]
  assert _last(cli(*where, "--remove")).startswith("0 indexed, 1 unchanged, 0 moved, 11 removed, 0 skipped; 1 image in")


def test_what_is_left_out_is_said(cli, where, images):
  (images / "a").rename(images / ".thumbnails")
  (images / "raw.dng").touch()
  found = cli(*where, "--exclude=*_07.png,*_08.png")
  assert _last(found).startswith("4 indexed")
  for line in (
    "left out as hidden, thumbnails or bins: .thumbnails/ (1 in all)",
    "left out as matching --exclude: b/c/picture_07.png, b/c/picture_08.png (2 in all)",
    "left out as files of other kinds: .dng (1 in all)",
  ):
    assert line in found.err
  assert _last(cli(*where, "--include_hidden")).startswith("8 indexed, 4 unchanged")


def test_a_full_disk_ends_with_a_usable_index(cli, where, tmp_path, monkeypatch):
  commit, calls_left = Index.commit, [1]

  def fill(self, *arguments, **options):
    if not calls_left:
      raise OSError(28, "No space left on device")
    calls_left.pop()
    return commit(self, *arguments, **options)

  monkeypatch.setattr(Index, "commit", fill)
  monkeypatch.setattr("cwf_jax.indexing.committer.COMMIT_BYTES", 1)
  found = cli(*where, "--batch_size=2")
  assert (found.code, found.out) == (1, "")
  kept, failed = found.err.splitlines()[-2:]
  assert "2 images in the index" in kept and "the same command goes on from there" in kept
  assert failed == "cwf_jax: no space is left on the disk"
  monkeypatch.undo()
  assert _last(cli(*where)).startswith("10 indexed, 2 unchanged, 0 moved, 0 removed, 0 skipped; 12 images")


def test_too_little_memory_is_one_line(cli, where, monkeypatch):
  def fail(*arguments, **options):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore")

  monkeypatch.setattr("cwf_jax.indexing.build.build_index", fail)
  found = cli(*where)
  told = "cwf_jax: not enough memory; a smaller --batch_size, --image_size or (for training) --schedule needs less\n"
  assert (found.code, found.err) == (1, told)


def test_an_error_of_our_own_is_not_hidden(cli, where, monkeypatch):
  def fail(*arguments, **options):
    raise RuntimeError("a bug")

  monkeypatch.setattr("cwf_jax.indexing.build.build_index", fail)
  with pytest.raises(RuntimeError, match="a bug"):
    cli(*where)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
  """Enough small pictures to be interrupted among them."""
  folder = tmp_path_factory.mktemp("many")
  generator = np.random.default_rng(0)
  for number in range(600):
    small = generator.integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize((96, 64), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
  return folder


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_a_usable_index(many, environment, tmp_path, sent, tiny_checkpoint):
  folder = tmp_path / "i"
  command = [
    *(sys.executable, str(ROOT / "main.py"), "--mode=index", f"--images={many}", f"--index={folder}", "--batch_size=2"),
    *("--weights=random:vgg16_cam_quarter", "--image_size=128"),
  ]
  with subprocess.Popen(
    command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as running:
    deadline = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < deadline:
      time.sleep(0.1)
      if (folder / "images.lance").exists() and len(open_index(folder)):
        break
    running.send_signal(sent)
    out, err = running.communicate(timeout=60)
  assert running.returncode == 130, err
  assert out == "" and "Traceback" not in err
  kept, last = err.splitlines()[-2:]
  rows = len(open_index(folder))
  assert 0 < rows < 600
  assert kept == f"{rows} images in the index {folder}; the same command goes on from there"
  assert last == "cwf_jax: interrupted"


def test_an_interrupt_while_it_starts_leaves_no_traceback(many, environment, tmp_path):
  command = [sys.executable, str(ROOT / "main.py"), "--mode=index", f"--images={many}", f"--index={tmp_path / 'i'}"]
  for seconds in (0.25, 0.6, 1.2):
    with subprocess.Popen(
      command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
      time.sleep(seconds)
      running.send_signal(signal.SIGINT)
      out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "cwf_jax: interrupted" and "Traceback" not in err


def test_as_processes_of_their_own(process, environment, where, images, tmp_path):
  """The two commands of the README, their streams and their codes; a warning anywhere would be an error."""
  for path in [*images.rglob("*.png")]:
    if "picture_00" not in path.name:
      path.unlink()
  made = process(*where)
  assert made.code == 0, made.err
  assert made.out == f"1 indexed, 0 unchanged, 0 moved, 0 removed, 0 skipped; 1 image in {tmp_path / 'i'}\n"
  assert any((Path(environment["CWF_JAX_HOME"]) / "compiled").iterdir())
  search = ("--mode=search", f"--index={tmp_path / 'i'}", f"--query={images}", "--format=json")
  found = process(*search, "--quiet")
  assert (found.code, len(found.out.splitlines()), found.err) == (0, 1, "")
  wrong = process("--mode=index", "--imagse=x")
  assert wrong == (2, "", "cwf_jax: there is no flag --imagse; did you mean --images? (--help shows the flags)\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--mode=search", "--quiet", "--index=INDEX", "--query=QUERIES"]])
def test_a_reader_that_goes_away_leaves_no_traceback(environment, photographs, tiny_index, arguments):
  arguments = [argument.replace("INDEX", str(tiny_index)).replace("QUERIES", str(photographs)) for argument in arguments]
  with subprocess.Popen(
    [sys.executable, str(ROOT / "main.py"), *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  ) as running:
    running.stdout.close()
    err = running.stderr.read().decode()
    running.wait(timeout=60)
  assert err == ""


def test_closed_streams_are_no_error(environment, tiny_index, query):
  command = f"'{sys.executable}' '{ROOT / 'main.py'}' --mode=search --index='{tiny_index}' --query='{query}'"
  for closed in (">&-", "2>&-", ">&- 2>&-"):
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert bool(done.stdout) == (closed == "2>&-")
