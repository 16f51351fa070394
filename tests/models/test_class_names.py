import pytest

from cwf_jax.errors import InputError
from cwf_jax.models.class_names import ClassList


def test_imagenet_has_the_order_of_the_published_networks():
  classes = ClassList.imagenet()
  assert len(classes) == 1000
  assert (classes.wnids[0], classes.names[0]) == ("n01440764", "tench")
  assert (classes.wnids[999], classes.names[999]) == ("n15075141", "toilet tissue")
  assert list(classes.wnids) == sorted(classes.wnids)  # the order of ILSVRC 2012 is that of the WordNet ids


@pytest.mark.parametrize("text", ["bell cote", "Bell_Cote", " bell  cote ", "442", 442, "n02825657"])
def test_a_class_is_found_by_what_a_person_types(text):
  assert ClassList.imagenet().resolve(text) == 442


def test_the_classes_of_the_paper_are_all_known():
  # METHOD 6.4, whose "movie theater" is the cinema of this list.
  listed = (
    "vault, bell cote, bannister, analog clock, cinema, coil, pier, dome, pedestal, flagpole, church, chime, "
    "suspension bridge, birdhouse, sundial, triumphal arch"
  )
  assert len(ClassList.imagenet().resolve_all(listed)) == 16


def test_an_unknown_class_is_refused_with_the_nearest():
  with pytest.raises(InputError, match="did you mean 'church'"):
    ClassList.imagenet().resolve("churhc")
  with pytest.raises(InputError, match="0 to 999"):
    ClassList.imagenet().resolve("1000")
  with pytest.raises(InputError, match="0 to 999"):
    ClassList.imagenet().resolve(-1)


@pytest.mark.parametrize("name", ["crane", "maillot"])
def test_a_name_of_two_classes_is_refused_with_both(name):
  with pytest.raises(InputError, match="2 classes are named"):
    ClassList.imagenet().resolve(name)


def test_a_list_keeps_its_order_and_drops_repeats():
  assert ClassList.imagenet().resolve_all("vault, 12,, vault ,dome") == (884, 12, 538)
  with pytest.raises(InputError, match="no class was named"):
    ClassList.imagenet().resolve_all(" , ")


def test_identifiers_are_all_different():
  with pytest.raises(InputError, match="repeated: a"):
    ClassList(("a", "a"), ("x", "y"))
