"""instructor, by JSON Schemas and by JSON in its own words."""

from typing import Literal

import instructor
import openai
from checks import KEY, MODEL, QUESTION, URL, check, run
from pydantic import BaseModel

sdk = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=60, max_retries=0)


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool


def ask(mode, **fields):
    patched = instructor.from_openai(sdk, mode=mode)
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 1, "max_retries": 0, "response_model": Capital}
    return patched.chat.completions.create(**asked | fields)


@check
def a_schema_holds_every_answer():
    assert all(ask(instructor.Mode.JSON_SCHEMA).city in {"Paris", "Rome"} for _ in range(20))


@check
def so_does_a_schema_of_another_servers_word():
    held = {"guided_json": Capital.model_json_schema()}
    assert all(ask(instructor.Mode.MD_JSON, extra_body=held).city in {"Paris", "Rome"} for _ in range(5))


@check
def a_partial_stream_ends_with_the_whole():
    patched = instructor.from_openai(sdk, mode=instructor.Mode.JSON_SCHEMA)
    *_, last = patched.chat.completions.create_partial(
        model=MODEL, messages=QUESTION, temperature=1, response_model=Capital
    )
    assert last.city in {"Paris", "Rome"}


run()
