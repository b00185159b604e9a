"""Every error has one of five domains."""

import collections

import pytest

from gateway.api.http.problems import TABLE
from gateway.telemetry.fault_domains import _CODES, DOMAINS, FaultDomain, domain_of


def test_every_code_of_the_api_has_a_domain_and_no_other_code_has():
    assert DOMAINS.keys() == TABLE.keys()


def test_no_code_has_two_domains():
    counts = collections.Counter(code for codes in _CODES.values() for code in codes)
    assert counts.most_common(1)[0][1] == 1


def test_an_error_of_the_server_is_no_fault_of_the_caller_and_the_other_way_round():
    for code, (status, _) in TABLE.items():
        is_theirs = domain_of(code) in (FaultDomain.CALLER, FaultDomain.POLICY)
        assert is_theirs == (status < 500), code


@pytest.mark.parametrize(
    ("code", "status", "domain"),
    [
        ("", 404, FaultDomain.CALLER),
        ("", 503, FaultDomain.SERVICE),
        ("overloaded", 503, FaultDomain.SERVICE),
        ("engine_error", 200, FaultDomain.ENGINE),
        ("of_some_plugin", 500, FaultDomain.ENGINE),
    ],
)
def test_without_a_code_the_status_decides_and_an_unknown_code_is_an_engines(code, status, domain):
    assert domain_of(code, status) is domain
