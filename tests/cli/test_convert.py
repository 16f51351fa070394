"""`--mode=convert`: a file into a checkpoint, by the mode and by the script, and every call that is refused."""

import pickle
import subprocess
import sys

import pytest

from cwf_jax.conversion.tables import AUTO, LAYOUTS
from cwf_jax.load import load_weights
from tests.cli.conftest import ROOT
from tests.conversion.foreign import draw_weights, write_keras_h5, write_mobilenet_v2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return write_mobilenet_v2(tmp_path_factory.mktemp("foreign") / "mine.weights.h5")


def test_a_file_becomes_a_checkpoint(cli, source, tmp_path):
  output = tmp_path / "out" / "mine"
  found = cli("--mode=convert", f"--source={source}", f"--output={output}")
  assert found.code == 0
  said = found.err.splitlines()
  assert len(said) == 2 and "note: its first class for the photograph chelsea (a cat) is " in said[0]
  assert "warning: its first class is the same for three different photographs" in said[1]
  size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
  assert found.out == f"{output}: mobilenet_v2, {size / 1e6:.1f} MB, read as keras3\n"
  assert load_weights(output).network_name == "mobilenet_v2"


def test_the_script_is_the_mode(source, tmp_path, environment):
  command = [sys.executable, str(ROOT / "weights" / "convert.py"), f"--source={source}", "--output=mine"]
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0 and "note: its first class for the photograph" in done.stderr
  assert done.stdout.startswith("mine: mobilenet_v2, ")
  assert load_weights(tmp_path / "mine").name == "mine"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--mode=convert needs --source=FILE; --mode=convert --help shows examples"),
    (["--source=x"], "--mode=convert needs --output=FOLDER"),
    (["--source=/absent.h5", "--output=x"], "there is no file /absent.h5"),
    (["--source=/absent.h5", "--output=x", "--network=mobilenet"], "did you mean 'mobilenet_v2'"),
    (["--source=/absent.h5", "--output=x", "--network=vgg16_cam_small"], "no file of vgg16_cam_small is read, only"),
    (["--source=x", "--output=x", "--layout=onnx"], "--layout takes one of auto, keras-h5, keras3, "),
  ],
)
def test_a_wrong_call_is_one_line(refused, arguments, said):
  assert said in refused("--mode=convert", *arguments)


def test_a_file_that_is_wrong_is_one_line(refused, source, tmp_path):
  output = tmp_path / "out"
  small = write_keras_h5(tmp_path / "small.h5", draw_weights())
  assert "is of another network" in refused("--mode=convert", f"--source={small}", f"--output={output}")
  said = refused("--mode=convert", f"--source={source}", "--layout=keras-h5", f"--output={output}")
  assert "is of the layout keras3, not keras-h5" in said
  (tmp_path / "x.pth").write_bytes(pickle.dumps(1))
  assert "x.pth is a pickle" in refused("--mode=convert", f"--source={tmp_path / 'x.pth'}", f"--output={output}")
  assert not output.exists()
  output.mkdir()
  assert "exists already" in refused("--mode=convert", f"--source={source}", f"--output={output}")


def test_the_flag_takes_every_layout():
  from absl import flags

  from cwf_jax.cli.convert import define_flags

  values = flags.FlagValues()
  define_flags(values)
  assert tuple(values["layout"].parser.enum_values) == (AUTO, *LAYOUTS)
