"""Images taken out of an index, by id or because their files are gone.

    deletion = delete_images("my.index", ["drafts/*"])
    print(deletion.ids)
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from cwf_jax.errors import InputError, printable
from cwf_jax.images.listing import is_void, matches
from cwf_jax.index.store import open_index, writing
from cwf_jax.index.upkeep import is_gone


class Deletion(NamedTuple):
  """What `delete_images` did.

  Attributes:
    ids: that were taken out, sorted.
    away: ids without a file that were left, since their whole folder is empty or gone.
  """

  ids: tuple[str, ...]
  away: tuple[str, ...]


def delete_images(index: str | os.PathLike, ids: Sequence[str] = (), missing: bool = False) -> Deletion:
  """Takes rows out of an index; the photographs stay where they are, and the next `build_index` would take them in again.

  Args:
    index: its folder.
    ids: ids, or patterns of ids with `*` and `?`.
    missing: also rows whose files are gone, except those of a folder that is empty or gone as a whole: its disk may be away.

  Raises:
    InputError: no index, another run writes to it, or an id or pattern that fits no row: then nothing is taken out.
    OSError: the index cannot be written.
  """
  open_index(index)  # a wrong path is refused before the lock makes a folder of it
  with writing(index):
    opened = open_index(index)
    paths = {row["id"]: row["path"] for batch in opened.scan(["id", "path"]) for row in batch.to_pylist()}
    chosen: set[str] = set()
    for name in ids:
      found = {name} if name in paths else {image_id for image_id in paths if matches(image_id, [name])}
      if not found:
        raise InputError(f"{printable(opened.folder)} holds no image {printable(name)}; nothing was deleted")
      chosen |= found
    gone = [image_id for image_id, path in paths.items() if missing and image_id not in chosen and is_gone(path)]
    folders = {folder: is_void(folder) for folder in {os.path.dirname(paths[image_id]) for image_id in gone}}
    away = {image_id for image_id in gone if folders[os.path.dirname(paths[image_id])]}
    deleted = tuple(sorted(chosen.union(gone) - away))
    opened.delete(deleted)
    opened.clean()
    if deleted and len(opened):
      opened.prepare()
  return Deletion(deleted, tuple(sorted(away)))
