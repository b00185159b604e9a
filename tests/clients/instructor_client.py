"""instructor, by tools, by JSON Schemas and by JSON in its own words."""

from typing import Literal

import instructor
import openai
from checks import KEY, MODEL, PATIENCE, QUESTION, TRIES, URL, check, run
from pydantic import BaseModel, ConfigDict

sdk = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=PATIENCE, max_retries=0)


class Capital(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a hot model goes on with properties of its own

    city: Literal["Paris", "Rome"]
    coastal: bool


def ask(mode, **fields):
    patched = instructor.from_openai(sdk, mode=mode)
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 1, "max_retries": 0, "response_model": Capital}
    return patched.chat.completions.create(**asked | fields)


@check
def every_answer_is_the_class_that_was_asked_for():
    # Tools are what instructor asks for unless it is told otherwise.
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        assert all(ask(mode).city in {"Paris", "Rome"} for _ in range(TRIES))


@check
def so_it_is_over_responses():
    patched = instructor.from_openai(sdk, mode=instructor.Mode.RESPONSES_TOOLS)
    for _ in range(TRIES):
        answer = patched.responses.create(
            model=MODEL, input=QUESTION, temperature=1, max_retries=0, response_model=Capital
        )
        assert answer.city in {"Paris", "Rome"}


@check
def so_does_a_schema_of_another_servers_word():
    held = {"guided_json": Capital.model_json_schema()}
    assert all(ask(instructor.Mode.MD_JSON, extra_body=held).city in {"Paris", "Rome"} for _ in range(5))


@check
def a_partial_stream_ends_with_the_whole():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        patched = instructor.from_openai(sdk, mode=mode)
        for _ in range(TRIES):
            *_, last = patched.chat.completions.create_partial(
                model=MODEL, messages=QUESTION, temperature=1, response_model=Capital
            )
            assert last.city in {"Paris", "Rome"}


run()
