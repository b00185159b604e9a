"""The libraries' bars are told and never drawn."""

import pytest
from transformers.utils import logging as library

from gateway_hf.loading.progress import bar_for, told_by_transformers


def test_a_bar_says_how_far_it_is_and_draws_nothing(capfd):
    told = []
    for _ in bar_for(lambda done, of: told.append((done, of)))(range(4), mininterval=0):
        pass
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert capfd.readouterr() == ("", "")


def test_bars_of_another_unit_say_nothing():
    told = []
    bar = bar_for(lambda done, of: told.append((done, of)), unit="B")
    list(bar(range(4), mininterval=0))
    with bar(total=9, unit="B", mininterval=0) as bytes_:
        bytes_.update(5)
    assert told[-1] == (5, 9)
    assert (4, 4) not in told


def test_transformers_own_bars_are_told_while_the_block_runs(capfd):
    told = []
    with told_by_transformers(told.append):
        list(library.tqdm(range(4), desc="Loading weights", mininterval=0))
    assert told[-1] == 1.0
    assert told == sorted(told)
    list(library.tqdm(range(4)))
    assert capfd.readouterr() == ("", "")


def test_the_hook_of_before_is_back_after_an_error():
    before = library._tqdm_hook
    with pytest.raises(ZeroDivisionError), told_by_transformers(lambda _: None):
        raise ZeroDivisionError
    assert library._tqdm_hook is before
