"""`--mode=fetch`: published weights by name, downloaded, verified and converted."""

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.convert import report_conversion

EXAMPLES = """
  python main.py --mode=fetch --weights=vgg16_cam
  python main.py --mode=fetch --weights=vgg16_cam --source=downloads/vgg16CAM.caffemodel
  python weights/fetch.py --weights=mobilenet_v2

Puts a checkpoint where --weights=NAME finds it: in $CWF_JAX_HOME, by default ~/.cache/cwf_jax. An
interrupted download resumes when you call again. weights/README.md says how a file is verified.
"""

AFTER_INTERRUPT = "what was downloaded stays; the same command resumes"

WITHOUT = ("index", "protocol", "image_size", "num_classes", "feature_map", "batch_size")
"""Flags of all modes that this one has no use for."""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode; `--weights` is every mode's."""
  text = flags.DEFINE_string
  text("source", None, "another address (http, https, file) or a file, in place of the published one", flag_values=values)
  text("sha256", None, "the sha256 that the file must have", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line about the checkpoint goes to standard output."""
  from cwf_jax.conversion.fetch import fetch
  from cwf_jax.conversion.manifest import read_manifest

  name = values["weights"].value
  if not name:
    raise CallError(f"--mode=fetch needs --weights=NAME, one of {', '.join(read_manifest())}")
  with console.progress("kB", start=None) as progress:
    converted = fetch(
      name,
      source=values["source"].value,
      sha256=values["sha256"].value,
      progress=lambda done, total: progress(done // 1000, total // 1000),
    )
  report_conversion(converted, converted.folder, console)
  return 0
