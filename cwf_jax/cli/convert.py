"""`--mode=convert`: a weight file of another library into a checkpoint."""

from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=convert --network=vgg16_cam --source=vgg16CAM.caffemodel --output=vgg16_cam
  python main.py --mode=convert --network=resnet50 --source=resnet50-0676ba61.pth --output=resnet50
  python weights/convert.py --network=mobilenet_v2 --source=mobilenet_v2.h5 --output=mobilenet_v2

Reads Keras (.h5 of every generation, .weights.h5, .keras), Caffe (.caffemodel), state dicts of
PyTorch, safetensors and .npz. A file of another kind, or with a missing, extra or misshapen weight,
is refused with a list of its problems. Nothing in a file is run.
The converted network names what a photograph shows, so that you see whether its weights mean
something. --weights=FOLDER then takes the checkpoint.
"""

WITHOUT = ("index", "weights", "protocol", "image_size", "num_classes", "feature_map", "batch_size")
"""Flags of all modes that this one has no use for."""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  text = flags.DEFINE_string
  text("source", None, "the weight file", flag_values=values)
  networks = (
    "vgg16_cam, vgg16, vgg19, resnet50, densenet121, densenet161, mobilenet_v2, efficientnet_lite0, efficientnet_lite1, "
    "efficientnet_lite2"
  )
  text("network", None, f"the network in the file: {networks}", flag_values=values)
  layouts = ["auto", "keras-h5", "keras3", "keras1-theano", "keras1-tensorflow", "caffe", "torch", "safetensors", "npz"]
  flags.DEFINE_enum("layout", "auto", layouts, "the file's layout; auto: detect it", flag_values=values)
  help_input = "how its images are prepared; auto: as the file's publisher does"
  inputs = ["auto", "caffe", "rgb_means", "symmetric", "torchvision"]
  flags.DEFINE_enum("preprocessing", "auto", inputs, help_input, flag_values=values)
  help_force = "convert even if kernels seem turned by 180 degrees"
  flags.DEFINE_bool("force", False, help_force, flag_values=values)
  text("output", None, "the checkpoint's folder; it must not be there yet", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line about the checkpoint goes to standard output."""
  for flag, kind in (("source", "FILE"), ("network", "NAME"), ("output", "FOLDER")):
    if not values[flag].value:
      raise CallError(f"--mode=convert needs --{flag}={kind}; --mode=convert --help shows examples")
  from cwf_jax.conversion.convert import convert

  source, output = values["source"].value, values["output"].value
  force, preprocessing = values["force"].value, values["preprocessing"].value
  network, layout = values["network"].value, values["layout"].value
  converted = convert(source, network, output, layout, force=force, preprocessing=preprocessing)
  report_conversion(converted, output, console)
  return 0


def report_conversion(converted, folder: str, console) -> None:
  """A conversion's notes, as remarks, and the line about its checkpoint."""
  for note in converted.notes:
    console.say(note if note.startswith("warning: ") else f"note: {note}")
  size = sum(file.stat().st_size for file in Path(folder).expanduser().rglob("*") if file.is_file())
  print(f"{printable(folder)}: {converted.network_name}, {size / 1e6:.1f} MB, read as {converted.layout}")
