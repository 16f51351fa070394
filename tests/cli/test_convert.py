"""`--mode=convert`: a file into a checkpoint, by the mode and by the script, and every call that is refused."""

import pickle
import subprocess
import sys

import pytest

from cwf_jax.conversion.convert import PREPROCESSINGS
from cwf_jax.conversion.published import NETWORKS
from cwf_jax.conversion.tables import AUTO, LAYOUTS
from cwf_jax.load import load_weights
from cwf_jax.models.network import Preprocessing
from tests.cli.conftest import ROOT
from tests.conversion.foreign import draw_weights, write_keras_h5, write_mobilenet_v2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return write_mobilenet_v2(tmp_path_factory.mktemp("foreign") / "mine.weights.h5")


def test_a_file_becomes_a_checkpoint(cli, source, tmp_path):
  output = tmp_path / "out" / "mine"
  found = cli("--mode=convert", "--network=mobilenet_v2", f"--source={source}", f"--output={output}")
  assert found.code == 0
  said = found.err.splitlines()
  assert len(said) == 3 and said[0] == "note: its input is RGB from -1 to 1 (--preprocessing=symmetric)"
  assert "note: its first class for the photograph chelsea (a cat) is " in said[1]
  assert "warning: its first class is the same for three different photographs" in said[2]
  size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
  assert found.out == f"{output}: mobilenet_v2, {size / 1e6:.1f} MB, read as keras3\n"
  assert load_weights(output).network_name == "mobilenet_v2"


def test_the_script_is_the_mode(source, tmp_path, environment):
  command = [sys.executable, str(ROOT / "weights" / "convert.py"), f"--source={source}", "--output=mine"]
  command += ["--network=mobilenet_v2", "--preprocessing=torchvision"]
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0 and "note: its first class for the photograph" in done.stderr
  assert done.stdout.startswith("mine: mobilenet_v2, ")
  loaded = load_weights(tmp_path / "mine")
  assert (loaded.name, loaded.network.config.preprocessing) == ("mine", Preprocessing.torchvision())


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--mode=convert needs --source=FILE; --mode=convert --help shows examples"),
    (["--source=x"], "--mode=convert needs --network=NAME"),
    (["--source=x", "--network=vgg16"], "--mode=convert needs --output=FOLDER"),
    (["--source=/absent.h5", "--output=x", "--network=resnet50"], "there is no file /absent.h5"),
    (["--source=/absent.h5", "--output=x", "--network=mobilenet"], "did you mean 'mobilenet_v2'"),
    (["--source=/absent.h5", "--output=x", "--network=vgg16_cam_small"], "cannot convert vgg16_cam_small, only vgg16_cam, "),
    (["--source=x", "--output=x", "--layout=onnx"], "--layout takes one of auto, keras-h5, keras3, "),
  ],
)
def test_a_wrong_call_is_one_line(refused, arguments, said):
  assert said in refused("--mode=convert", *arguments)


def test_a_file_that_is_wrong_is_one_line(refused, source, tmp_path):
  call = "--mode=convert", "--network=mobilenet_v2", f"--output={tmp_path / 'out'}"
  small = write_keras_h5(tmp_path / "small.h5", draw_weights())
  assert "is of another network" in refused(*call, f"--source={small}")
  said = refused(*call, f"--source={source}", "--layout=keras-h5")
  assert "is of the layout keras3, not keras-h5" in said
  (tmp_path / "x.pth").write_bytes(pickle.dumps(1))
  assert "x.pth is a pickle" in refused(*call, f"--source={tmp_path / 'x.pth'}")
  output = tmp_path / "out"
  assert not output.exists()
  output.mkdir()
  assert "exists already" in refused(*call, f"--source={source}")


def test_the_flags_list_every_layout_network_and_preprocessing():
  from absl import flags

  from cwf_jax.cli.convert import define_flags

  values = flags.FlagValues()
  define_flags(values)
  assert tuple(values["layout"].parser.enum_values) == (AUTO, *LAYOUTS)
  assert tuple(values["preprocessing"].parser.enum_values) == (AUTO, *PREPROCESSINGS)
  assert values["network"].help.partition(": ")[2].replace(" or ", " ").split(", ") == [*NETWORKS]
