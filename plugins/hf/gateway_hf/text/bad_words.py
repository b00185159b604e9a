"""From words that an answer must not have to the tokens that spell them, as vLLM's `bad_words` does it."""

from gateway.engine import Completion, InvalidRequest
from gateway_hf.text.codec import TextCodec

_FIELD = "bad_words"


def spell_bad_words(text: TextCodec, words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each word, as it begins a text and as it follows a blank.

    The second spelling counts only where it is another beginning of the same length: else the blank is a token of its
    own, and the first spelling is met behind it. Raises `InvalidRequest` for a word that the model cannot write.
    """
    return tuple(spelled for number, word in enumerate(words) for spelled in _spell(text, number, word.lstrip()))


def _spell(text: TextCodec, number: int, word: str) -> tuple[tuple[int, ...], ...]:
    try:
        first, behind = (tuple(text.tokenize(Completion(said, add_special=False))) for said in (word, f" {word}"))
    except InvalidRequest as error:
        raise InvalidRequest(f"{_FIELD}[{number}]: {error.message}", param=_FIELD) from error
    if not first:
        raise InvalidRequest(f"{_FIELD}[{number}] has no tokens", param=_FIELD)
    is_other = len(behind) == len(first) and behind[0] != first[0]
    return (first, behind) if is_other else (first,)
