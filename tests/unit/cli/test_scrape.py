"""Two scrapes, and what happened between them."""

import pytest

from gateway.cli.scrape import Rates, Scrape, quantile

TEXT = """# TYPE llm_gateway_requests_total counter
llm_gateway_requests_total{{endpoint="/v1/generate",model="m",status="200"}} {ok}
llm_gateway_requests_total{{endpoint="/v1/generate",model="m",status="429"}} {refused}
llm_gateway_requests_total{{endpoint="/v1/generate",model="m",status="503"}} {failed}
# TYPE llm_gateway_tokens_generated_total counter
llm_gateway_tokens_generated_total{{model="m"}} {tokens}
# TYPE llm_gateway_engine_memory_bytes gauge
llm_gateway_engine_memory_bytes{{engine="default"}} 1024
# TYPE gen_ai_server_time_to_first_token_seconds histogram
gen_ai_server_time_to_first_token_seconds_bucket{{le="0.1"}} {fast}
gen_ai_server_time_to_first_token_seconds_bucket{{le="0.2"}} {all}
gen_ai_server_time_to_first_token_seconds_bucket{{le="+Inf"}} {all}
"""


def scrape(moment, *counts):
    names = ("ok", "refused", "failed", "tokens", "fast", "all")
    found = Scrape.of(TEXT.format(**dict(zip(names, counts, strict=True))))
    found.moment = moment
    return found


def test_rates_are_what_grew_in_a_second():
    rates = scrape(12.0, 8, 3, 1, 110, 6, 10).since(scrape(10.0, 2, 1, 1, 10, 1, 3))
    assert rates == Rates(4.0, 1.0, 0.0, 50.0, pytest.approx(0.07), pytest.approx(0.1825))


def test_counts_that_fell_began_anew():
    rates = scrape(12.0, 4, 0, 0, 20, 1, 1).since(scrape(10.0, 9, 0, 0, 500, 7, 9))
    assert (rates.requests, rates.tokens) == (2.0, 10.0)


def test_where_nothing_was_answered_there_is_no_time():
    rates = scrape(12.0, 4, 0, 0, 20, 1, 1).since(scrape(10.0, 4, 0, 0, 20, 1, 1))
    assert (rates.first_token_p50, rates.first_token_p95) == (None, None)


def test_a_time_beyond_the_last_bound_is_the_bound():
    assert quantile(0.95, {0.1: 1.0, float("inf"): 10.0}) == 0.1


def test_a_gauge_is_read_by_its_label():
    assert scrape(1.0, 0, 0, 0, 0, 0, 0).by("engine", "llm_gateway_engine_memory_bytes") == {"default": 1024.0}


def test_what_is_no_exposition_is_refused():
    with pytest.raises(ValueError, match=r".*"):
        Scrape.of("<html>")
