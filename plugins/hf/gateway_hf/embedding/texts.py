"""From the texts of a request to the tokens that an encoder reads."""

from collections.abc import Iterator
from contextlib import contextmanager

from tokenizers import Encoding, Tokenizer

from gateway.engine import ContextTooLong, EmbedRequest, EngineError, InvalidRequest, Tokens
from gateway_hf.embedding.encoder import TokenRow
from gateway_hf.embedding.recipe import Recipe

# Few texts have more characters than this to a token: of a longer one no more is read than shows that it is too long.
_USUAL_CHARACTERS = 8
_CUT = "truncate"


class TextReader:
    """Reads texts for one model; safe to use from any thread. `special` tokens stand around a text."""

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe, *, vocabulary: int, window: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._recipe = recipe
        self._vocabulary = vocabulary
        self._window = window
        self.special = tokenizer.num_special_tokens_to_add(is_pair=False)

    def read(self, request: EmbedRequest) -> list[TokenRow]:
        """Return the tokens of each input.

        Raises `ContextTooLong` for one that does not fit, unless it may be cut, and `InvalidRequest` for no token.
        """
        most = self._window if request.truncate is None else min(request.truncate, self._window)
        prompt = self._recipe.prompt_for(request.role)
        skipped = 0 if self._recipe.pools_prompt or not prompt else len(self._read(prompt, self._window)[0]) - 1
        rows: list[TokenRow] = []
        for index, one in enumerate(request.inputs):
            if isinstance(one, Tokens):
                ids, whole = checked(one.ids, self._vocabulary, f"input {index}")[:most], len(one.ids)
            elif most <= self.special:
                raise InvalidRequest(
                    f"of {most} tokens none is left for a text: {self.special} are special", param=_CUT
                )
            else:
                ids, whole = self._read(f"{prompt}{one.text}", most)
            if whole > most and request.truncate is None:
                raise ContextTooLong(
                    f"input {index} has more than the {most} tokens that the model reads; have it cut, or send less",
                    param="input",
                )
            if not ids:
                raise InvalidRequest(f"input {index} has no tokens", param="input")
            rows.append(TokenRow(ids, skipped))
        return rows

    def _read(self, text: str, most: int) -> tuple[list[int], int]:
        """Return the first `most` tokens, special ones at both ends, and how many there are, or that are too many."""
        encoding, more = read_head(self._tokenizer, self._spelled(text), most - self.special)
        return self._tokenizer.post_process(encoding).ids, most + 1 if more else 0

    def _spelled(self, text: str) -> str:
        return text.lower() if self._recipe.lowers else text


def read_head(tokenizer: Tokenizer, text: str, most: int) -> tuple[Encoding, bool]:
    """Return the first `most` tokens of a text, without special ones, and whether it has more."""
    head = max(most, 1) * _USUAL_CHARACTERS
    while True:
        (encoding,) = tokenizer.encode_batch_fast([text[:head]], add_special_tokens=False)
        if len(encoding.ids) > most or head >= len(text):
            break
        head *= 2
    more = len(encoding.ids) > most
    if more:
        encoding.truncate(most)
    return encoding, more


def checked(ids: tuple[int, ...], vocabulary: int, name: str) -> list[int]:
    """Return ids that were sent; raise `InvalidRequest` for one that the model has no token for."""
    for token in ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"{name}: token id {token} is not below {vocabulary}", param="input")
    return list(ids)


@contextmanager
def named(param: str) -> Iterator[None]:
    """Say of errors about an input that they are about a field of another name."""
    try:
        yield
    except EngineError as error:
        error.param = param if error.param == "input" else error.param
        raise
