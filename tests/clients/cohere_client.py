"""Cohere's SDK: reranking by both of its APIs."""

import cohere
from checks import ANSWERS, ASKED, KEY, PAIRS, PATIENCE, URL, VECTORS, check, is_ranking, refused, run
from cohere.core import RequestOptions

PLACE = {"base_url": URL, "api_key": KEY, "timeout": PATIENCE}
ONCE = RequestOptions(max_retries=0)


def rank(client, **fields):
    return client.rerank(**{"model": VECTORS, "query": ASKED, "documents": ANSWERS, "request_options": ONCE} | fields)


@check
def the_second_api_ranks():
    answer = rank(cohere.ClientV2(**PLACE))
    assert answer.results[0].index == 1
    scores = [each.relevance_score for each in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert answer.meta.api_version.version == "2"
    assert answer.meta.billed_units.search_units == 1


@check
def as_many_as_asked_for():
    assert len(rank(cohere.ClientV2(**PLACE), top_n=2, max_tokens_per_doc=32).results) == 2


@check
def the_first_api_ranks_and_returns_documents():
    first, *rest = rank(cohere.Client(**PLACE), return_documents=True).results
    assert first.document.text == ANSWERS[1]
    assert len(rest) == len(ANSWERS) - 1


@check
def a_model_of_pairs_ranks_as_it_does_by_itself():
    pairs = {name: PAIRS[name] for name in ("model", "query", "documents")}
    for client in (cohere.Client(**PLACE), cohere.ClientV2(**PLACE)):
        for count in (2, len(PAIRS["documents"])):
            found = rank(client, **pairs, top_n=count).results
            is_ranking([(each.index, each.relevance_score) for each in found], count)


@check
async def the_asynchronous_client():
    async with cohere.AsyncClientV2(**PLACE) as client:
        assert (await rank(client)).results[0].index == 1


@check
def errors_have_classes():
    refused(cohere.BadRequestError, rank, cohere.ClientV2(**PLACE), query="so " * 2_000)
    refused(cohere.NotFoundError, rank, cohere.ClientV2(**PLACE), model="rerank-none")
    refused(cohere.UnauthorizedError, rank, cohere.ClientV2(**PLACE | {"api_key": "wrong"}))


run()
