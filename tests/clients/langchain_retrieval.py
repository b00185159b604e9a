"""LangChain's vectors by OpenAI's dialect, and its reranking by Cohere's and Jina's."""

import cohere
import openai
from checks import (
    ANSWERS,
    ASKED,
    KEY,
    PAIRS,
    PATIENCE,
    POOR_KEY,
    TOPICS,
    URL,
    VECTORS,
    check,
    is_patient,
    is_ranking,
    knows_topics,
    refused,
    run,
)
from langchain_cohere import CohereRerank
from langchain_community.document_compressors import JinaRerank, jina_rerank
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings


def connect(**fields):
    # Its own tokens are those of OpenAI's models: any other model is sent texts.
    place = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE, "max_retries": 0}
    return OpenAIEmbeddings(**place | {"model": VECTORS, "check_embedding_ctx_length": False} | fields)


def rerank(**fields):
    return CohereRerank(**{"base_url": URL, "cohere_api_key": KEY, "model": VECTORS, "top_n": 2} | fields)


@check
def vectors_know_what_a_text_is_about():
    knows_topics(connect().embed_documents(TOPICS))


@check
def a_query_is_near_its_answer():
    store = InMemoryVectorStore.from_texts(ANSWERS, connect())
    (found,) = store.similarity_search(ASKED, k=1)
    assert found.page_content == ANSWERS[1]


@check
def many_texts_go_in_several_requests():
    vectors = connect(chunk_size=3).embed_documents(TOPICS * 5)
    assert len(vectors) == 15
    alone = connect().embed_query(TOPICS[0])
    assert sum(a * b for a, b in zip(vectors[0], alone, strict=True)) > 0.999


@check
def shorter_vectors():
    assert len(connect(dimensions=64).embed_query("a")) == 64


@check
async def the_asynchronous_calls():
    knows_topics(await connect().aembed_documents(TOPICS))


@check
def documents_are_reranked():
    documents = [Document(text, metadata={"place": place}) for place, text in enumerate(ANSWERS)]
    first, second = rerank().compress_documents(documents, ASKED)
    assert first.metadata["place"] == 1
    assert first.metadata["relevance_score"] > second.metadata["relevance_score"]
    assert rerank().rerank(ANSWERS, ASKED)[0]["index"] == 1


def jina(**fields):
    # The class has the address of Jina's own service as a constant of its module.
    jina_rerank.JINA_API_URL = f"{URL}/v1/rerank"
    return JinaRerank(**{"jina_api_key": KEY, "model": VECTORS, "top_n": 2} | fields)


@check
def documents_are_reranked_by_jinas_api():
    documents = [Document(text, metadata={"place": place}) for place, text in enumerate(ANSWERS)]
    first, second = jina().compress_documents(documents, ASKED)
    assert first.metadata["place"] == 1
    assert first.metadata["relevance_score"] > second.metadata["relevance_score"]


@check
def a_model_of_pairs_ranks_as_it_does_by_itself():
    documents = [Document(text, metadata={"place": place}) for place, text in enumerate(PAIRS["documents"])]
    for make in (rerank, jina):
        for count in (2, len(documents)):
            found = make(model=PAIRS["model"], top_n=count).compress_documents(documents, PAIRS["query"])
            is_ranking([(each.metadata["place"], each.metadata["relevance_score"]) for each in found], count)


@check
def jinas_client_says_the_reason():
    assert "none" in str(refused(RuntimeError, jina(model="none").rerank, ANSWERS, ASKED))
    assert "key" in str(refused(RuntimeError, jina(jina_api_key="wrong").rerank, ANSWERS, ASKED))


@check
def errors_have_classes():
    assert refused(openai.BadRequestError, connect(dimensions=385).embed_query, "a").param == "dimensions"
    assert refused(openai.NotFoundError, connect(model="none").embed_query, "a").code == "model_not_found"
    refused(cohere.UnauthorizedError, rerank(cohere_api_key="wrong").rerank, ANSWERS, ASKED)


@check
def a_limit_is_waited_for_as_the_headers_say():
    is_patient(lambda retries: connect(api_key=POOR_KEY, max_retries=retries).embed_query("a"), openai.RateLimitError)


run()
