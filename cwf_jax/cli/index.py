"""`--mode=index`: photographs into an index."""

import contextlib
import errno

from absl import flags

from cwf_jax.cli.call import CallError, FailedError, define_plugin, load_asked_plugin
from cwf_jax.errors import InputError, printable

EXAMPLES = """
  python main.py --mode=index --images=photographs --index=my.index
  python main.py --mode=index --images=more --prefix=more/ --index=my.index
  python main.py --mode=index --images=list.txt --index=my.index --store_classes=all
  python main.py --mode=index --images=photographs --index=small.index --dimensions=64
  python main.py --mode=index --images=more --prefix=more/ --index=my.index --remove

Run it again to bring the index up to date with new, changed, moved and removed files; what was
moved is not encoded again, and what is not listed any more is removed. You can stop it at any time:
run the same command again to go on. A file that cannot be read is skipped, with the reason. Where
more than half of the files are gone, or a whole folder, a disk may be missing: their rows are kept
unless you give --remove.
"""

_SKIPS_SHOWN = 20


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  define_plugin(values)
  text = flags.DEFINE_string
  text("images", None, "a folder, with all folders in it, or a list file (.txt, one path a line)", flag_values=values)
  text("prefix", "", "put before the ids of this run, so that one index can hold several folders", flag_values=values)
  text(
    "system", None, "whose descriptors are stored and searched by: ofa (class-weighted, the default), rmac, gem, crow, mac, "
    "spoc, ucrow, raw, raw_cw or cwr (class weights and regions)", flag_values=values,
  )  # fmt: skip
  text(
    "whitening", None, "bundled: the checkpoint's; self: fitted on these images; none; or another index to take it from. "
    "Default: bundled if there is one, else none", flag_values=values,
  )  # fmt: skip
  flags.DEFINE_integer(
    "n_pca", None, "classes of each image that --whitening=self is fitted on; default: 1", lower_bound=1, flag_values=values
  )
  flags.DEFINE_integer(
    "dimensions", None, "dimensions of the whitening, those of the largest eigenvalues; default: all that it has",
    lower_bound=1, flag_values=values,
  )  # fmt: skip
  text(
    "store_classes", None, "class vectors kept for online and fixed search: the N most probable of each image, 0, all, or a "
    "list of classes (names or ids, separated by commas); default: 64", flag_values=values,
  )  # fmt: skip
  flags.DEFINE_list(
    "exclude", [], "patterns of files and folders to leave out, separated by commas: *.tif, raw, 2019/*", flag_values=values
  )
  flags.DEFINE_boolean(
    "include_hidden", False, "take in hidden files and folders, thumbnails and bins (.*, @eaDir, #recycle and the like)",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_boolean(
    "remove", False, "remove the rows of files that are gone even if they are more than half, or a whole folder",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_boolean(
    "keep_raw", None, "store the vectors before whitening, too", flag_values=values
  )


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the summary's last line goes to standard output."""
  load_asked_plugin(values)
  for flag in ("images", "index"):
    if not values[flag].value:
      raise CallError(f"--mode=index needs --{flag}=PATH; --mode=index --help shows examples")
  from cwf_jax.cli.encoders import agreeing_encoder, make_encoder
  from cwf_jax.index.store import is_index, open_index
  from cwf_jax.indexing.build import build_index

  images, folder = values["images"].value, values["index"].value
  encoder = agreeing_encoder(values, open_index(folder)) if is_index(folder) else make_encoder(values)
  try:
    with console.progress("images") as progress:
      summary = build_index(
        images,
        folder,
        encoder,
        prefix=values["prefix"].value,
        exclude=values["exclude"].value,
        include_hidden=values["include_hidden"].value,
        remove=values["remove"].value,
        progress=progress,
        batch_size=values["batch_size"].value,
        **{name: values[name].value for name in ("system", "whitening", "n_pca", "dimensions", "store_classes", "keep_raw")},
      )
  except (KeyboardInterrupt, OSError) as error:
    with contextlib.suppress(InputError, OSError):  # the error itself is what counts
      if is_index(folder) and getattr(error, "errno", None) not in (errno.EACCES, errno.EPERM, errno.EROFS):
        console.say(f"{_count(len(open_index(folder)), 'image')} in the index {folder}; the same command goes on from there")
    raise
  tell(summary, console)
  print(
    f"{summary.indexed} indexed, {summary.unchanged} unchanged, {summary.moved} moved, {summary.removed} removed, "
    f"{len(summary.skipped)} skipped; {_count(summary.rows, 'image')} in {folder}"
  )
  if summary.kept:
    raise FailedError(
      f"{_count(len(summary.kept), 'image')} of the index {'is' if len(summary.kept) == 1 else 'are'} not among these files, "
      f"such as {printable(summary.kept[0])}: more than half of them, or a whole folder. A disk may be missing, so they are "
      "kept; --remove removes them"
    )
  if not summary.rows and not summary.removed:
    raise FailedError(f"none of the {_count(len(summary.skipped), 'file')} could be read")
  return 0


def _count(number: int, what: str) -> str:
  return f"{number} {what}{'' if number == 1 else 's'}"


def tell(summary, console) -> None:
  """The remarks on a run: what was skipped and why, where the time went, what the classes are worth."""
  for place, file in enumerate(summary.skipped):
    line = f"skipped {printable(file.id)}: {file.reason}"
    (console.say if place < _SKIPS_SHOWN else console.log)(line)
  if len(summary.skipped) > _SKIPS_SHOWN:
    console.say(f"... and {len(summary.skipped) - _SKIPS_SHOWN} more; --log_file=FILE keeps all of them")
  for remark in summary.remarks:
    console.say(remark)
  seconds = summary.seconds
  if summary.indexed:
    rate = summary.indexed / max(seconds["total"] - seconds["compile"], 1e-9)
    parts = ", ".join(f"{name} {seconds[name]:.1f} s" for name in ("compile", "read", "encode", "write"))
    console.say(f"{seconds['total']:.1f} s ({parts}), {rate:.1f} images a second without compiling")
  console.say(f"whitening: {summary.whitening}")
  if summary.class_note:
    console.say(f"note: {summary.class_note}")
