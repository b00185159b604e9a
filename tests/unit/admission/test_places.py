"""Places and tokens are counted, in all and by caller, and the last places can be kept from one that has the others."""

import pytest

from gateway.admission.places import Places


def places(total, cache_tokens=0, spare=0):
    found = Places()
    found.resize(total, cache_tokens, spare)
    return found


def test_a_place_is_free_until_all_are_taken_and_again_when_one_is_given_back():
    found = places(2)
    found.take("a", 10)
    assert found.fits(10)
    found.take("b", 20)
    assert not found.fits(1)
    found.give_back("a", 10)
    assert found.fits(1)
    assert (found.running, found.tokens) == (1, 20)


def test_tokens_are_a_limit_of_their_own():
    found = places(9, cache_tokens=100)
    found.take("a", 60)
    assert found.fits(40)
    assert not found.fits(41)


def test_tokens_that_were_reserved_beyond_the_need_make_room():
    found = places(9, cache_tokens=100)
    found.take("a", 60)
    found.adjust(-20)
    assert found.fits(60)


def test_a_request_larger_than_the_cache_fits_alone():
    found = places(9, cache_tokens=100)
    assert found.fits(1_000)
    found.take("a", 1)
    assert not found.fits(1_000)


def test_a_model_has_one_place_at_least():
    assert places(0).fits(1)


def test_places_that_are_held_stay_so_where_there_are_fewer():
    found = places(3)
    for _ in range(3):
        found.take("a", 1)
    found.resize(2, 0, 0)
    found.give_back("a", 1)
    assert not found.fits(1)
    found.give_back("a", 1)
    assert found.fits(1)


@pytest.mark.parametrize(("total", "spare", "held"), [(4, 1, 3), (8, 2, 6), (8, 9, 6), (3, 1, 3), (4, 0, 4)], ids=str)
def test_the_spare_places_are_a_quarter_at_most(total, spare, held):
    """A caller is at the spare places when it holds all the others, and not before."""
    found = places(total, spare=spare)
    for _ in range(held):
        assert not found.is_at_spare("a")
        found.take("a", 1)
    assert found.is_at_spare("a")
    assert not found.is_at_spare("b")
