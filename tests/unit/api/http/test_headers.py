import pytest

from gateway.api.http.headers import read_timeouts, wants_updates
from gateway.engine import InvalidRequest
from gateway.flow.deadline import Timeouts


def test_the_header_goes_before_the_body():
    told = Timeouts(total=9.0, queue=2.0, first_token=1.0)
    assert read_timeouts({"x-request-timeout": "0.5"}, told) == Timeouts(total=0.5, queue=2.0, first_token=1.0)
    assert read_timeouts({}, told) is told


@pytest.mark.parametrize("text", ["nan", "-1", "0", "inf", "1e400", "1e-400", "-0.0", "9" * 5_000, "1_0", "", "5s"])
def test_what_is_no_time_is_refused_by_the_headers_name(text):
    with pytest.raises(InvalidRequest) as refused:
        read_timeouts({"x-request-timeout": text}, Timeouts())
    assert refused.value.param == "X-Request-Timeout"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("queue-updates", True),
        ("Queue-Updates", True),
        ("wait=10, queue-updates; x=1", True),
        ("respond-async", False),
        ("", False),
    ],
)
def test_updates_are_a_preference(header, wanted):
    assert wants_updates({"prefer": header}) is wanted
