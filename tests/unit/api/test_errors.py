"""Each path tells of an error in its own dialect, wherever the error comes from."""

import pytest

from gateway.api.errors import Errors
from gateway.api.http.problems import OWN_WORDS, Problem
from gateway.api.routes import DIALECTS, WORDS

ERRORS = Errors(DIALECTS, WORDS)
ANTHROPICS = ("/v1/messages", "/v1/messages/", "/v1/messages/count_tokens", "/v1/messages/none")
OTHERS = ("/v1/generate", "/v1/chat/completions", "/v1/messagesque", "/messages", "")


@pytest.mark.parametrize("path", ANTHROPICS)
def test_anthropics_paths_tell_in_anthropics_words(path):
    told = ERRORS.response(Problem("overloaded", "so it is"), path)
    assert told.status == 529
    assert b'"type":"overloaded_error"' in told.body
    assert told.body.startswith(b'{"type":"error"')
    assert ERRORS.words(path).id_headers == (b"x-request-id", b"request-id")


@pytest.mark.parametrize("path", OTHERS)
def test_the_others_tell_in_openais(path):
    problem = Problem("overloaded", "so it is")
    told = ERRORS.response(problem, path)
    assert (told.status, told.body) == (503, OWN_WORDS.to_json(problem, ""))
    assert ERRORS.words(path).id_headers == (b"x-request-id",)
