"""`--mode=fetch`: published weights by name, downloaded, verified and converted."""

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.convert import tell

EXAMPLES = """
  python main.py --mode=fetch --weights=mobilenet_v2 --sha256=HEX
  python main.py --mode=fetch --weights=mobilenet_v2 --sha256=HEX --source=downloads/mobilenet_v2.h5
  python weights/fetch.py --weights=mobilenet_v2 --sha256=HEX

Puts a checkpoint where every mode finds it by its name: in $CWF_JAX_HOME, by default
~/.cache/cwf_jax. What is downloaded is read only if its sha256 is right. Where this version knows
none, it is trusted on your word: --sha256. Weights that are there already are not fetched again.
"""

WITHOUT = ("index", "protocol", "image_size", "num_classes", "feature_map", "batch_size")
"""Flags of all modes that this one has no use for."""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode; `--weights` is every mode's."""
  text = flags.DEFINE_string
  text("source", None, "another address (http, https, file) or a file, in place of the published one", flag_values=values)
  text("sha256", None, "of the file, where this version knows none", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line about the checkpoint goes to standard output."""
  from cwf_jax.conversion.fetch import fetch
  from cwf_jax.conversion.manifest import read_manifest

  name = values["weights"].value
  if not name:
    raise CallError(f"--mode=fetch needs --weights=NAME, one of {', '.join(read_manifest())}")
  with console.progress("kB") as progress:
    converted = fetch(
      name,
      source=values["source"].value,
      sha256=values["sha256"].value,
      progress=lambda done, total: progress(done // 1000, total // 1000),
    )
  tell(converted, converted.folder, console)
  return 0
