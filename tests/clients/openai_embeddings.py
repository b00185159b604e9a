"""Vectors by OpenAI's SDK for Python."""

import json

import openai
from checks import (
    KEY,
    PATIENCE,
    POOR_KEY,
    TOPICS,
    URL,
    VECTORS,
    check,
    eventually,
    is_patient,
    knows_topics,
    refused,
    run,
)

PLACE = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE}
client = openai.OpenAI(**PLACE, max_retries=0)


def embed(asked=client, **fields):
    return asked.embeddings.create(**{"model": VECTORS, "input": TOPICS} | fields)


@check
def vectors_know_what_a_text_is_about():
    answer = embed()
    knows_topics([each.embedding for each in answer.data])
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    assert answer.model == VECTORS


@check
def numbers_and_bytes_are_one_vector():
    # Left out, the SDK asks for bytes and reads them itself.
    (told,) = embed(input=TOPICS[0], encoding_format="float").data
    (read,) = embed(input=TOPICS[:1]).data
    assert told.embedding == read.embedding


@check
def shorter_vectors():
    assert len(embed(input="a", dimensions=64, user="u1").data[0].embedding) == 64


@check
async def the_asynchronous_client():
    async with openai.AsyncOpenAI(**PLACE) as asked:
        knows_topics([each.embedding for each in (await embed(asked)).data])


@check
def a_file_of_texts_is_answered_as_a_batch():
    asked = {"method": "POST", "url": "/v1/embeddings"}
    lines = [{"custom_id": f"t{place}", "body": {"model": VECTORS, "input": text}} for place, text in enumerate(TOPICS)]
    written = b"".join(json.dumps(asked | line).encode() + b"\n" for line in lines)
    given = client.files.create(file=("texts.jsonl", written), purpose="batch")
    made = client.batches.create(input_file_id=given.id, endpoint=asked["url"], completion_window="24h")
    eventually(lambda: client.batches.retrieve(made.id).status == "completed")
    over = client.batches.retrieve(made.id)
    answers = [json.loads(line) for line in client.files.content(over.output_file_id).text.splitlines()]
    vectors = {answer["custom_id"]: answer["response"]["body"]["data"][0]["embedding"] for answer in answers}
    knows_topics([vectors[line["custom_id"]] for line in lines])


@check
def errors_have_classes():
    assert refused(openai.BadRequestError, embed, dimensions=385).param == "dimensions"
    assert refused(openai.BadRequestError, embed, input="so " * 2_000).code == "context_length_exceeded"
    assert refused(openai.NotFoundError, embed, model="text-embedding-none").code == "model_not_found"


@check
def a_limit_is_waited_for_as_the_headers_say():
    poor = client.with_options(api_key=POOR_KEY)
    is_patient(lambda retries: embed(poor.with_options(max_retries=retries), input="a"), openai.RateLimitError)


run()
