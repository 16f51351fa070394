"""`--mode=export`: the descriptors of an index in a file for other programs."""

from absl import flags

from cwf_jax.cli.call import ENCODER_FLAGS, CallError

EXAMPLES = """
  python main.py --mode=export --index=my.index --output=my.npz
  python main.py --mode=export --index=my.index --output=my.parquet

npz holds the arrays ids, paths and descriptors (numpy.load reads it); parquet has a row for each
image: id, path, descriptor. Descriptors are float32 and of unit length, so that a product of two
is their score; rows are in the order of the ids.
"""

WITHOUT = ENCODER_FLAGS


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  flags.DEFINE_string("output", None, "the file; one that is there is replaced", flag_values=values)
  flags.DEFINE_enum("format", None, ["npz", "parquet"], "default: by the file's ending", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line about the file goes to standard output."""
  for flag in ("index", "output"):
    if not values[flag].value:
      raise CallError(f"--mode=export needs --{flag}=PATH; --mode=export --help shows examples")
  from cwf_jax.index.exporting import export_index
  from cwf_jax.index.store import open_index

  index, output = open_index(values["index"].value), values["output"].value
  with console.progress("images") as progress:
    export_index(index, output, values["format"].value, progress)
  print(f"{len(index)} descriptors of {index.settings.dimensions} dimensions in {output}")
  return 0
