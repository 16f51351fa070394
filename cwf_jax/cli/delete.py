"""`--mode=delete`: rows taken out of an index."""

import os

from absl import flags

from cwf_jax.cli.call import ENCODER_FLAGS, CallError
from cwf_jax.errors import InputError, printable, reason_of

EXAMPLES = """
  python main.py --mode=delete --index=my.index --ids="drafts/*,2019/blurred.jpg"
  python main.py --mode=delete --index=my.index --ids=ids.txt
  python main.py --mode=delete --index=my.index --missing

The photographs stay where they are. --mode=index takes one in again where its file is there;
--exclude leaves it out. --missing takes out the rows whose files are gone, but for a folder that
is empty or gone as a whole: --mode=index --images=FOLDER --prefix=PREFIX --remove takes that out.
"""

WITHOUT = ENCODER_FLAGS

_SHOWN = 20
"""Ids that are shown; the log file has all."""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  flags.DEFINE_string(
    "ids", None, "ids or patterns of ids with * and ?, separated by commas; or a file (.txt), one a line",
    flag_values=values,
  )  # fmt: skip
  flags.DEFINE_boolean("missing", False, "the rows whose files are gone", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the last line counts, on standard output."""
  folder, names = values["index"].value, values["ids"].value
  if not folder:
    raise CallError("--mode=delete needs --index=PATH; --mode=delete --help shows examples")
  if not names and not values["missing"].value:
    raise CallError("--mode=delete needs --ids=LIST or --missing; --mode=delete --help shows examples")
  from cwf_jax.index.store import open_index
  from cwf_jax.indexing.removal import delete_images

  ids = _read_ids(names) if names else []
  if names and not ids:
    raise CallError(f"--ids={names} names no id")
  deletion = delete_images(folder, ids, values["missing"].value)
  for place, image_id in enumerate(deletion.ids):
    (console.say if place < _SHOWN else console.log)(f"deleted {printable(image_id)}")
  if deletion.away:
    console.say(
      f"left {len(deletion.away)} without a file, such as {printable(deletion.away[0])}: the whole folder is empty or gone, "
      "and its disk may be away"
    )
  print(f"{len(deletion.ids)} deleted; {len(open_index(folder))} in {folder}")
  return 0


def _read_ids(names: str) -> list[str]:
  from cwf_jax.images.listing import LIST_EXTENSIONS

  if os.path.splitext(names)[1].lower() not in LIST_EXTENSIONS:
    return [name.strip() for name in names.split(",") if name.strip()]
  try:
    with open(names, encoding="utf-8-sig") as file:
      return [line for line in (line.strip(" \t\r\n") for line in file) if line and not line.startswith("#")]
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"the list of ids {printable(names)} cannot be read: {reason_of(error)}") from None
