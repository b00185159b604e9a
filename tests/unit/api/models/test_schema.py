"""What the routes of the models answer can be read by a client."""

import msgspec
import pytest
from polyfactory.factories.msgspec_factory import MsgspecFactory

from gateway.api.models.schema import ModelList, ModelParameters, ModelState


@pytest.mark.parametrize("kind", [ModelList, ModelState, ModelParameters])
def test_what_is_written_can_be_read_again(kind):
    for value in MsgspecFactory.create_factory(kind).batch(20):
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value
