"""`--mode=train` from a folder to a checkpoint that can be used, killed, interrupted, resumed and refused."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cwf_jax.images.decoding import EXTENSIONS
from cwf_jax.index.store import open_index
from cwf_jax.labelled.class_folders import open_pool
from cwf_jax.labelled.mixture import check_pool
from cwf_jax.load import load_weights
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import save_checkpoint
from cwf_jax.models.class_names import ClassList
from tests.tiny import TEACHER

ROOT = Path(__file__).parent.parent.parent
CLASSES = ("blue", "green", "red")
QUICK = ("--schedule=32:6", "--batch_size=4", "--warmup=2", "--canvas=64")
"""Flags of a run of six steps."""
LONG = ("--schedule=32:20,32:20,32:120", "--batch_size=4", "--warmup=2", "--canvas=64")
"""Of one that can be killed after its first phase; a state is kept at the end of each."""


def _write_images(folder, count, seed=0):
  """Noise around a color of its class, in three shapes."""
  generator = np.random.default_rng(seed)
  for place, name in enumerate(CLASSES):
    (folder / name).mkdir(parents=True)
    color = np.full(3, 60)
    color[2 - place] = 190
    for number in range(count):
      height, width = ((48, 40), (40, 64), (80, 70))[number % 3]
      small = color + generator.integers(-50, 51, (6, 6, 3))
      image = Image.fromarray(small.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
      image.save(folder / name / f"{number}.png")


@pytest.fixture(scope="session")
def flowers(tmp_path_factory):
  """Three class folders with images to train on and to measure accuracy on."""
  folder = tmp_path_factory.mktemp("data") / "flowers"
  _write_images(folder / "train", 6)
  _write_images(folder / "val", 2, seed=1)
  return folder


@pytest.fixture
def data(flowers, tmp_path):
  """A copy that may be changed."""
  return shutil.copytree(flowers, tmp_path / "flowers")


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory):
  """A narrow MobileNetV2 that knows other classes."""
  folder = tmp_path_factory.mktemp("checkpoints") / "teacher"
  save_checkpoint(folder, registry.build("mobilenet_v2", TEACHER), network_name="mobilenet_v2", classes=ClassList.numbered(5))
  return folder


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
  """At these sizes a batch would have room for more images than there are."""
  monkeypatch.setattr("cwf_jax.runtime.PIXELS_AT_ONCE", {"gpu": 2 * 64 * 128})


def _command(*arguments):
  return [sys.executable, str(ROOT / "main.py"), "--mode=train", *map(str, arguments)]


@pytest.fixture(scope="module")
def trained(flowers, tiny_checkpoint, environment, tmp_path_factory):
  """The folder of a checkpoint that a process made undisturbed, and what it printed."""
  output = tmp_path_factory.mktemp("trained") / "mine"
  done = subprocess.run(
    _command(f"--data={flowers}", f"--output={output}", f"--weights={tiny_checkpoint}", *LONG),
    cwd=output.parent, env=environment, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return output, done


def _metrics(output):
  file = output.with_name(output.name + ".run") / "metrics.jsonl"
  return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _arrays(folder):
  return {path: np.asarray(array) for path, array in parameters.list_parameters(load_weights(folder).network).items()}


def test_a_process_makes_a_checkpoint_of_the_classes_of_the_folders(trained, flowers):
  output, done = trained
  loaded = load_weights(output)
  assert loaded.classes == ClassList(CLASSES, CLASSES)
  assert loaded.network_name == "vgg16_cam_quarter" and loaded.network.config.num_classes == 3
  channels = loaded.network.config.feature_channels
  assert loaded.whitening["mean"].shape == (channels,) and loaded.whitening["projection"].shape == (channels, 6)
  content = json.loads((output / "checkpoint.json").read_text())
  assert content["stored"] == "float16"
  training, history = content["metadata"]["training"], content["metadata"]["history"]
  data = {"images": 18, "classes": 3, "sha256": check_pool(open_pool(flowers, EXTENSIONS)).sha256}
  assert content["metadata"]["whitening_vectors"] == 18  # one of each image
  assert training["settings"]["schedule"] == {"phases": [[32, 20], [32, 20], [32, 120]]}
  assert training["settings"]["learning_rate"] == 1e-4 and training["data"] == [data]
  assert [line["step"] for line in history if "validation_top1" in line] == [20, 40, 160]
  line = done.stdout.splitlines()
  assert len(line) == 1 and line[0].startswith(f"{output}: vgg16_cam_quarter, 3 classes, ")
  assert line[0].endswith(f" MB, {history[-1]['validation_top1']:.3f} of the validation images right")
  assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_the_classifier_is_centered_and_the_backbone_moved(trained, tiny_checkpoint):
  before, after = _arrays(tiny_checkpoint), _arrays(trained[0])
  assert before.keys() == after.keys()
  assert all((before[path] != after[path]).any() for path in before if "classifier" not in path)
  kernel = after["classifier/kernel"].astype(np.float64)
  assert kernel.shape[1] == 3 and np.abs(kernel.sum(1)).max() < 3e-3 * np.abs(kernel).max()  # rounded to half precision


def test_the_checkpoint_indexes(cli, trained, flowers, tmp_path):
  found = cli("--mode=index", f"--images={flowers / 'val'}", f"--index={tmp_path / 'i'}", f"--weights={trained[0]}")
  assert found.code == 0, found.err
  assert found.out == f"6 indexed, 0 unchanged, 0 moved, 0 removed, 0 skipped; 6 images in {tmp_path / 'i'}\n"
  assert open_index(tmp_path / "i").whitening is not None


def _stop_when_it_has(output, step, environment, kind, *arguments):
  """Starts a run and sends it a signal as soon as its metrics tell of a step."""
  with subprocess.Popen(
    _command(*arguments), cwd=output.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as running:
    deadline = time.monotonic() + 240
    while running.poll() is None and time.monotonic() < deadline:
      file = output.with_name(output.name + ".run") / "metrics.jsonl"
      if file.exists() and f'{{"step": {step},' in file.read_text():
        break
      time.sleep(0.01)
    running.send_signal(kind)
    out, err = running.communicate(timeout=120)
  return running.returncode, out, err


@pytest.mark.long  # the loop's own test of an interruption is short
def test_a_run_that_is_killed_and_interrupted_ends_with_the_same_weights(
  trained, flowers, tiny_checkpoint, environment, tmp_path
):
  output = tmp_path / "mine"
  flags = (f"--data={flowers}", f"--output={output}", f"--weights={tiny_checkpoint}", *LONG)
  code, out, err = _stop_when_it_has(output, 40, environment, signal.SIGKILL, *flags)
  assert (code, out) == (-signal.SIGKILL, ""), err
  assert not output.exists() and _metrics(output)[-1]["step"] < 100
  code, out, err = _stop_when_it_has(output, 100, environment, signal.SIGINT, *flags, "--resume")
  assert (code, out) == (130, ""), err
  told = f"the run is kept in {output}.run; the same command with --resume goes on from there"
  assert err.splitlines()[-2:] == [told, "cwf_jax: interrupted"] and "Traceback" not in err
  assert not output.exists() and 100 <= _metrics(output)[-1]["step"] < 160
  done = subprocess.run(_command(*flags, "--resume"), env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  first, last = (json.loads((folder / "checkpoint.json").read_text()) for folder in (trained[0], output))
  assert last["sha256"] == first["sha256"] and last["whitening_sha256"] == first["whitening_sha256"]
  steps = [line["step"] for line in _metrics(output) if "loss" in line]
  assert steps == sorted(set(steps)) and steps[-1] == 160
  assert done.stdout.replace(str(output), "") == trained[1].stdout.replace(str(trained[0]), "")


@pytest.mark.long
def test_random_weights_are_trained_with_batch_norm_that_is_gone_at_the_end(cli, flowers, tmp_path):
  where = (f"--data={flowers}", f"--output={tmp_path / 'w'}", "--network=vgg16_cam_quarter", "--image_size=32")
  found = cli("--mode=train", *where, *QUICK, "--stored=float32")
  assert found.code == 0, found.err
  loaded = load_weights(tmp_path / "w")
  assert loaded.network.config == dataclasses.replace(
    registry.find_network("vgg16_cam_quarter").config, num_classes=3, image_size=32
  )
  content = json.loads((tmp_path / "w" / "checkpoint.json").read_text())
  training = content["metadata"]["training"]
  assert content["stored"] == "float32" and training["start"] == "random" and training["settings"]["learning_rate"] == 2e-3
  assert {path.rpartition("/")[2] for path in content["parameters"]} == {"kernel", "bias"}
  assert loaded.whitening["projection"].shape == (128, 6)
  kernel = np.asarray(loaded.network.class_weights, np.float64)
  assert np.abs(kernel.sum(1)).max() < 1e-6
  run = _metrics(tmp_path / "w")
  assert [line["step"] for line in run] == [6, 6] and {"validation_top1", "validation_top5"} < set(run[1])


def test_a_teacher_gives_its_classes_and_needs_no_labels(cli, flowers, tiny_checkpoint, tiny_teacher, tmp_path):
  where = (f"--data={flowers}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", f"--teacher={tiny_teacher}")
  found = cli("--mode=train", *where, *QUICK, "--mosaic=0.5")
  assert found.code == 0, found.err
  assert "validation" not in found.out  # no folder is one of the teacher's classes
  loaded = load_weights(tmp_path / "w")
  assert loaded.classes == ClassList.numbered(5)
  assert set(_arrays(tmp_path / "w")) == set(_arrays(tiny_checkpoint))  # the projections are gone
  training = loaded.metadata["training"]
  assert training["teacher"] == "teacher" and training["teacher_sha256"] == load_weights(tiny_teacher).sha256
  told = _metrics(tmp_path / "w")[0]
  assert {"probabilities", "features", "cam_features", "loss", "accuracy"} <= set(told)


def test_a_frozen_backbone_is_the_start_s(cli, flowers, tiny_checkpoint, tmp_path):
  where = (f"--data={flowers / 'train'}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", "--freeze_backbone")
  found = cli("--mode=train", *where, *QUICK, "--stored=float32", "--quiet")
  assert (found.code, found.err) == (0, "")
  assert "validation" not in found.out  # there is no val/
  before, after = _arrays(tiny_checkpoint), _arrays(tmp_path / "w")
  changed = {path for path in before if before[path].tobytes() != after[path].tobytes()}
  assert changed == {"cam/bias", "cam/kernel", "classifier/bias", "classifier/kernel"}
  assert load_weights(tmp_path / "w").metadata["training"]["settings"]["learning_rate"] == 1e-3


def test_images_that_cannot_be_read_are_told_and_left_out(cli, data, tiny_checkpoint, tmp_path):
  (data / "train" / "red" / "none.png").write_bytes(b"nothing")
  whole = (data / "train" / "red" / "0.png").read_bytes()
  (data / "train" / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])  # its header is whole
  found = cli("--mode=train", f"--data={data}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", *QUICK)
  assert found.code == 0, found.err
  assert f"1 of 20 images of {data} cannot be read and are left out: train/red/none.png: " in found.err
  assert "skipped train/red/cut.png: " in found.err
  (told,) = load_weights(tmp_path / "w").metadata["training"]["data"]
  assert (told["images"], told["classes"]) == (19, 3)


def test_a_loss_that_is_not_finite_is_one_line(cli, flowers, tiny_checkpoint, tmp_path):
  where = (f"--data={flowers}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", "--freeze_backbone")
  found = cli("--mode=train", *where, *QUICK, "--learning_rate=1e30")
  assert (found.code, found.out) == (1, "")
  assert found.err.splitlines()[-1] == "cwf_jax: the loss is nan at step 6: a lower learning rate may help"
  assert not (tmp_path / "w").exists()
  # nothing was kept, so that the next try needs nothing removed
  found = cli("--mode=train", *where, *QUICK)
  assert found.code == 0, found.err


def test_weights_that_are_not_finite_are_not_kept(cli, flowers, tiny_checkpoint, tmp_path):
  """The loss is that of the weights before the step."""
  where = (f"--data={flowers}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", "--freeze_backbone")
  found = cli("--mode=train", *where, *QUICK, "--schedule=32:1", "--warmup=0", "--learning_rate=3e38", "--weight_decay=1e3")
  assert (found.code, found.out) == (1, "")
  assert found.err.splitlines()[-1] == "cwf_jax: parameters are not finite after step 1: a lower learning rate may help"
  assert not any(path.name.isdecimal() for path in (tmp_path / "w.run" / "steps").iterdir())


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--output=TMP/w"], "--mode=train needs --data=PATH"),
    (["--data=DATA"], "--mode=train needs --output=PATH"),
    (["--data=DATA", "--output=TMP/there"], "--output=TMP/there is there already"),
    (["--data=TMP/none", "--output=TMP/w"], "there is no file or folder TMP/none"),
    (["--data=TMP/one", "--output=TMP/w"], "at least 2 class folders, found 1: red"),
    (["--data=TMP/there", "--output=TMP/w"], "there are no images in TMP/there"),
    (["--data=TMP/broken", "--output=TMP/w"], "none of the 2 images of TMP/broken can be read"),
    (["--data=DATA", "--output=TMP/w", "--freeze_backbone"], "--freeze_backbone needs --weights"),
    (["--data=DATA", "--output=TMP/w", "--schedule=96"], "a schedule is SIZE:STEPS,SIZE:STEPS"),
    (["--data=DATA", "--output=TMP/w", "--schedule=40:5"], "multiples of 32 pixels; found 40"),
    (["--data=DATA", "--output=TMP/w", "--mix=1,2"], "--mix takes a share above 0 for each of the 1 sources"),
    (["--data=DATA", "--output=TMP/w", "--mix=a"], "--mix takes numbers separated by commas"),
    (["--data=DATA", "--output=TMP/w", "--mix=0"], "--mix takes a share above 0"),
    (["--data=DATA", "--output=TMP/w", "--weights=WEIGHTS", "--network=mobilenet_v2"], "leave one of them out"),
    (["--data=DATA", "--output=TMP/w", "--network=vgg17"], "no network is named 'vgg17'"),
    (["--data=DATA", "--output=TMP/w", "--weights=nosuch"], "no weights 'nosuch'"),
    (["--data=DATA", "--output=TMP/w", "--teacher=nosuch"], "no weights 'nosuch'"),
    (["--data=DATA", "--output=TMP/w", "--batch_size=1"], "batch_size is at least 2"),
    (["--data=DATA", "--output=TMP/w", "--learning_rate=0"], "learning_rate is more than 0"),
    (["--data=DATA", "--output=TMP/w", "--canvas=31"], "--canvas takes a whole number of at least 32"),
    (["--data=DATA", "--output=TMP/w", "--stored=int8"], "--stored takes one of float16, float32; found 'int8'"),
    (["--data=DATA", "--output=TMP/w", "--weights=WEIGHTS", "--resume"], "there is no run to resume"),
    (["--data=DATA,", "--output=TMP/w"], "one of 2 is empty"),
    (["--data=DATA", "--output=TMP/w", "--weights=random:vgg16_cam_quarter"], "asked for by --network=vgg16_cam_quarter"),
    (["--data=DATA", "--output=TMP/w", "--teacher=TEACHER", "--teacher_scale=3"], "1.5 cells of the teacher's CAM features"),
    (["--data=TMP/unknown", "--output=TMP/w", "--weights=WEIGHTS"], "1 of the 3 class folders of TMP/unknown are not"),
    (["--data=DATA", "--output=TMP/w", "--protocol=paper"], "there is no flag --protocol"),
    (["--data=DATA", "--output=TMP/w", "--teacher_scale=4"], "--teacher_scale needs --teacher"),
  ],
)
def test_a_wrong_call_is_one_line_before_any_step(
  refused, flowers, tiny_checkpoint, tiny_teacher, tmp_path, arguments, said
):
  shutil.copytree(flowers, tmp_path / "unknown")
  (tmp_path / "unknown" / "train" / "green").rename(tmp_path / "green")  # validation has a class that training has not
  (tmp_path / "there").mkdir()
  (tmp_path / "one" / "red").mkdir(parents=True)
  shutil.copy(flowers / "train" / "red" / "0.png", tmp_path / "one" / "red")
  for name in ("red", "blue"):
    (tmp_path / "broken" / name).mkdir(parents=True)
    (tmp_path / "broken" / name / "0.png").write_bytes(b"nothing")
  for name, path in {"DATA": flowers, "TMP": tmp_path, "WEIGHTS": tiny_checkpoint, "TEACHER": tiny_teacher}.items():
    arguments = [argument.replace(name, str(path)) for argument in arguments]
    said = said.replace(name, str(path))
  assert said in refused("--mode=train", *arguments)
  assert not (tmp_path / "w").exists() and not (tmp_path / "w.run").exists()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (["--resume", "--seed=1"], "settings.seed was 0 and is 1"),
    (["--resume", "--canvas=96"], "canvas was 64 and is 96"),
    (["--resume", "--schedule=32:20,32:20,32:121"], "settings.schedule.phases[2][1] was 120 and is 121"),
    (["--resume", "--image_size=96"], "config.image_size was 64 and is 96"),
    ([], "holds a run already: --resume goes on with it"),
  ],
)
def test_a_run_is_not_mixed_with_another(refused, trained, flowers, tiny_checkpoint, tmp_path, changes, said):
  before = shutil.copytree(f"{trained[0]}.run", tmp_path / "w.run") / "metrics.jsonl"
  kept = before.read_bytes()
  line = refused(
    "--mode=train", f"--data={flowers}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}", *LONG, *changes
  )
  assert said in line and str(tmp_path / "w.run") in line
  assert before.read_bytes() == kept and not (tmp_path / "w").exists()


def test_a_run_is_not_resumed_on_other_images(refused, trained, flowers, tiny_checkpoint, tmp_path):
  shutil.copytree(f"{trained[0]}.run", tmp_path / "w.run")
  data = shutil.copytree(flowers, tmp_path / "data")
  (one, other) = sorted((data / "train" / "red").iterdir())[:2]
  other.write_bytes(one.read_bytes())
  where = (f"--data={data}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}")
  line = refused("--mode=train", *where, *LONG, "--resume")
  assert "otherwise: data[0].sha256 was " in line and "images" not in line


def test_a_run_that_was_done_is_finished_again(cli, trained, flowers, tiny_checkpoint, tmp_path):
  """A kill after the last step and before the checkpoint is written loses nothing."""
  shutil.copytree(f"{trained[0]}.run", tmp_path / "w.run")
  where = (f"--data={flowers}", f"--output={tmp_path / 'w'}", f"--weights={tiny_checkpoint}")
  found = cli("--mode=train", *where, *LONG, "--resume")
  assert found.code == 0, found.err
  assert load_weights(tmp_path / "w").sha256 == load_weights(trained[0]).sha256


def test_help_shows_the_flags(cli):
  found = cli("--mode=train", "--help")
  assert (found.code, found.err) == (0, "")
  for flag in ("--data", "--teacher", "--freeze_backbone", "--resume", "--schedule", "--weights"):
    assert f"  {flag}" in found.out
  assert "OUTPUT.run: --resume" in found.out
