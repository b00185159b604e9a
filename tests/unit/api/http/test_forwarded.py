import time

import pytest

from gateway.api.http.forwarded import take_forwarded
from gateway.config import ServerSettings

ALLOW = ("10.0.0.0/8", "127.0.0.1", "2001:db8::/32")
PROXY = "10.0.0.1"


def take(headers, peer=PROXY, header="x-forwarded-for", allow=ALLOW):
    """Return the client's address, the scheme and the host as they are taken for a connection from `peer`."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "headers": pairs, "client": (peer, 4711) if peer else None, "scheme": "http"}
    host = take_forwarded(scope, ServerSettings(forwarded_allow=allow, forwarded_header=header))
    return (scope["client"] or ("",))[0], scope["scheme"], host


def address(*values, **how):
    return take([("x-forwarded-for", value) for value in values], **how)[0]


def test_headers_of_a_peer_that_is_not_trusted_mean_nothing():
    told = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")]
    assert take(told, peer="198.51.100.1") == ("198.51.100.1", "http", "")
    assert take(told, allow=()) == (PROXY, "http", "")
    assert take(told, peer=None) == ("", "http", "")
    assert take(told) == ("192.0.2.7", "https", "a.example")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.1.1.1"], "192.0.2.7"),
        (["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
        (["6.6.6.6, unknown"], PROXY),
        (["6.6.6.6, unknown, 10.1.1.1"], "10.1.1.1"),
        (["192.0.2.7:5555"], "192.0.2.7"),
        (["[2001:0DB9::1]:443"], "2001:db9::1"),
        (["2001:db9::1%eth0"], "2001:db9::1"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, ::ffff:10.1.1.1"], "192.0.2.7"),
        ([""], PROXY),
        (["256.1.1.1"], PROXY),
        (["\xff"], PROXY),
        ([], PROXY),
    ],
)
def test_an_address_counts_when_all_to_its_right_are_trusted(values, expected):
    assert address(*values) == expected


def test_a_peer_of_both_families_is_known_by_its_older_address():
    assert address("192.0.2.7", peer="::ffff:10.0.0.1") == "192.0.2.7"
    assert address("192.0.2.7", peer="::ffff:198.51.100.1") == "::ffff:198.51.100.1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.7;proto=https;host=a.example", ("192.0.2.7", "https", "a.example")),
        ('For="[2001:db9::1]:4711" ; by=10.0.0.1', ("2001:db9::1", "http", "")),
        ("for=6.6.6.6;proto=https, for=192.0.2.7;proto=http", ("192.0.2.7", "http", "")),
        ("for=192.0.2.7;host=a.example, for=10.1.1.1;host=inner", ("192.0.2.7", "http", "a.example")),
        ("for=_hidden, for=10.1.1.1", ("10.1.1.1", "http", "")),
        ('for=6.6.6.6;x=", for="[2001:db9::1]"', (PROXY, "http", "")),
        ('for="6.6.6.6, for=192.0.2.7', (PROXY, "http", "")),
        ("for=192.0.2.7" + ", x=y" * 2_000, (PROXY, "http", "")),
        ("", (PROXY, "http", "")),
    ],
)
def test_the_standard_header_is_read_as_a_whole_or_not_at_all(value, expected):
    """A quote that a client left open would hide what the proxy added behind it."""
    assert take([("forwarded", value), ("x-forwarded-for", "6.6.6.6")], header="forwarded") == expected


def test_one_header_is_read_for_the_address_for_a_proxy_passes_the_others_on():
    told = [("forwarded", "for=6.6.6.1"), ("x-forwarded-for", "6.6.6.2"), ("x-real-ip", "6.6.6.3")]
    assert [take(told, header=header)[0][-1] for header in ("forwarded", "x-forwarded-for", "x-real-ip")] == [*"123"]


def test_beside_the_standard_header_a_client_chooses_neither_scheme_nor_host():
    told = [("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")]
    assert take([("forwarded", "for=192.0.2.7"), *told], header="forwarded") == ("192.0.2.7", "http", "")
    assert take(told, header="forwarded") == (PROXY, "http", "")
    assert take([*told, ("x-real-ip", "192.0.2.7")], header="x-real-ip") == ("192.0.2.7", "https", "a.example")


def test_a_scheme_is_one_that_the_service_has():
    assert take([("x-forwarded-proto", "HTTPS")])[1] == "https"
    assert take([("x-forwarded-proto", "https, http")])[1] == "http"
    assert take([("x-forwarded-proto", "javascript")])[1] == "http"


@pytest.mark.parametrize("value", [" , " * 2_000, "a=" * 2_000, 'a="' + "\\\\" * 1_000, "a=b ;" * 800 + '"'])
def test_nothing_that_a_client_sends_takes_long_to_read(value):
    """A pattern with two ways to read one thing would take for ever here."""
    begun = time.process_time()
    assert take([("forwarded", value)], header="forwarded")[0] == PROXY
    assert take([("x-forwarded-for", value)])[0] == PROXY
    assert time.process_time() - begun < 1
