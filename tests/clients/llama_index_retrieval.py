"""LlamaIndex's vectors by OpenAI's dialect, and its reranking by Cohere's and Jina's."""

import openai
from checks import (
    ANSWERS,
    ASKED,
    KEY,
    PAIRS,
    PATIENCE,
    TOPICS,
    URL,
    VECTORS,
    check,
    is_ranking,
    knows_topics,
    refused,
    run,
)
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank


def connect(**fields):
    place = {"api_base": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE, "max_retries": 0}
    return OpenAILikeEmbedding(**place | {"model_name": VECTORS} | fields)


def nodes():
    return [NodeWithScore(node=TextNode(text=text), score=0.0) for text in ANSWERS]


@check
def vectors_know_what_a_text_is_about():
    knows_topics(connect().get_text_embedding_batch(TOPICS))


@check
def a_query_is_near_its_answer():
    index = VectorStoreIndex.from_documents([Document(text=text) for text in ANSWERS], embed_model=connect())
    (found,) = index.as_retriever(similarity_top_k=1).retrieve(ASKED)
    assert found.text == ANSWERS[1]


@check
def many_texts_go_in_several_requests():
    vectors = connect(embed_batch_size=4).get_text_embedding_batch(TOPICS * 5)
    assert len(vectors) == 15
    assert vectors[0] == vectors[3]


@check
def shorter_vectors():
    assert len(connect(dimensions=64).get_query_embedding("a")) == 64


@check
async def the_asynchronous_calls():
    knows_topics(await connect().aget_text_embedding_batch(TOPICS))


@check
def nodes_are_reranked_by_coheres_api():
    ranker = CohereRerank(api_key=KEY, base_url=URL, model=VECTORS, top_n=2)
    first, second = ranker.postprocess_nodes(nodes(), query_str=ASKED)
    assert first.text == ANSWERS[1]
    assert first.score > second.score


@check
def nodes_are_reranked_by_jinas_api():
    ranker = JinaRerank(api_key=KEY, base_url=f"{URL}/v1", model=VECTORS, top_n=2)
    first, second = ranker.postprocess_nodes(nodes(), query_str=ASKED)
    assert first.text == ANSWERS[1]
    assert first.score > second.score


@check
def a_model_of_pairs_ranks_as_it_does_by_itself():
    texts = PAIRS["documents"]
    for kind, base in ((CohereRerank, URL), (JinaRerank, f"{URL}/v1")):
        for count in (2, len(texts)):
            ranker = kind(api_key=KEY, base_url=base, model=PAIRS["model"], top_n=count)
            asked = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in texts]
            found = ranker.postprocess_nodes(asked, query_str=PAIRS["query"])
            is_ranking([(texts.index(each.text), each.score) for each in found], count)


@check
def jinas_client_says_the_reason():
    ranker = JinaRerank(api_key=KEY, base_url=f"{URL}/v1", model="none", top_n=2)
    assert "none" in str(refused(RuntimeError, ranker.postprocess_nodes, nodes(), query_str=ASKED))


@check
def errors_have_classes():
    assert refused(openai.BadRequestError, connect(dimensions=385).get_query_embedding, "a").param == "dimensions"
    assert refused(openai.NotFoundError, connect(model_name="none").get_query_embedding, "a").code == "model_not_found"


run()
