"""Each parameter of `/v1/responses` is in one place of the table."""

import msgspec

from gateway.api.responses.parameters import NEEDS, REFUSED, sort_out
from gateway.api.responses.schema import ResponsesBody
from gateway.engine import Capability, ModelCard

ABLE = ModelCard(name="m", context_window=9, capabilities=frozenset(Capability))
UNABLE = ModelCard(name="m", context_window=9, capabilities=frozenset())


def test_every_parameter_is_sorted_once():
    for card in (ABLE, UNABLE):
        sorted_out = sort_out(card)
        paths = [*sorted_out.honoured, *sorted_out.taken, *sorted_out.refused]
        assert len(paths) == len(set(paths))
        assert {path.partition(".")[0] for path in paths} == {
            field.name for field in msgspec.structs.fields(ResponsesBody)
        }


def test_what_a_model_cannot_do_is_refused():
    assert set(NEEDS) <= set(sort_out(ABLE).honoured)
    assert set(NEEDS) <= set(sort_out(UNABLE).refused)
    assert set(REFUSED) - {"reasoning.summary"} <= set(sort_out(ABLE).refused)
