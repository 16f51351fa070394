"""The package's manifest, and what a manifest may hold."""

import pytest

from cwf_jax.conversion import published
from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.manifest import Entry, check_sha256, parse_manifest, read_manifest
from cwf_jax.models import registry

ENTRY = {
  "name": "mine", "network": "mobilenet_v2", "layout": "keras3", "source": "https://a.b/c", "sha256": "0" * 64, "bytes": 3,
  "licence": "MIT",
}  # fmt: skip


def test_the_entries_of_the_package_can_be_converted():
  entries = read_manifest()
  assert "mobilenet_v2" in entries
  for name, entry in entries.items():
    assert entry.name == name and entry.source.startswith("https://") and entry.licence
    assert entry.network in registry.network_names()
    assert entry.layout in published.find_tables(entry.network)


def test_an_entry_is_read():
  assert parse_manifest([ENTRY]) == {"mine": Entry(**ENTRY)}
  assert parse_manifest([ENTRY | {"sha256": None, "bytes": None}])["mine"].sha256 is None


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"name": None}, "wrong in: name"),
    ({"bytes": "3", "source": 1}, "wrong in: bytes, source"),
    ({"bytes": True}, "wrong in: bytes"),
    ({"extra": 1}, "wrong in: extra"),
    ({"name": "../mine"}, "a name of weights is"),
    ({"name": ".mine"}, "a name of weights is"),
    ({"sha256": "abc"}, "a sha256 is 64 digits"),
  ],
)
def test_a_wrong_entry_is_refused(change, told):
  with pytest.raises(ConversionError, match=told):
    parse_manifest([ENTRY | change])


def test_a_missing_part_and_a_repeated_name_are_refused():
  with pytest.raises(ConversionError, match="entry 1 of the manifest is missing, or is wrong in: licence"):
    parse_manifest([ENTRY, {key: value for key, value in ENTRY.items() if key != "licence"}])
  with pytest.raises(ConversionError, match="two entries named mine"):
    parse_manifest([ENTRY, ENTRY])


def test_a_sha256_may_be_in_upper_case():
  assert check_sha256(" " + "AB" * 32 + "\n") == "ab" * 32
  for text in ("", "ab" * 31, "g" * 64, "sha256:" + "0" * 57):
    with pytest.raises(ConversionError, match="a sha256 is 64 digits of 0-9 and a-f"):
      check_sha256(text)
