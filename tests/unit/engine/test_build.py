"""The `system_fingerprint` of a card: a digest of its parts, or of its fingerprint."""

from msgspec import structs

from gateway.engine import ModelCard, system_fingerprint

CARD = ModelCard(name="m", context_window=9, capabilities=frozenset(), fingerprint="f")
BUILT = structs.replace(CARD, build={"weights": "a", "dtype": "float32"})


def test_it_is_of_the_parts_where_there_are_some():
    own = system_fingerprint(BUILT)
    assert own.startswith("fp_")
    assert own != system_fingerprint(CARD)
    assert own == system_fingerprint(structs.replace(BUILT, fingerprint="another machine's", name="n"))
    assert own == system_fingerprint(structs.replace(BUILT, build={"dtype": "float32", "weights": "a"}))
    assert own != system_fingerprint(structs.replace(BUILT, build={"weights": "a", "dtype": "bfloat16"}))


def test_without_parts_it_is_of_the_fingerprint():
    assert system_fingerprint(CARD) == system_fingerprint(structs.replace(CARD, name="n"))
    assert system_fingerprint(CARD) != system_fingerprint(structs.replace(CARD, fingerprint="g"))
    assert system_fingerprint(structs.replace(CARD, fingerprint="")) is None
