"""From words that an answer must not have to the tokens that spell them, after vLLM's `bad_words`."""

from msgspec import structs

from gateway.engine import Completion, InvalidRequest
from gateway_hf.sampling.terms import Terms
from gateway_hf.text.codec import TextCodec

_FIELD = "bad_words"


def spell_bad_words(text: TextCodec, words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of each word, as it begins a text and as it follows a blank.

    vLLM leaves the second spelling out where it has more or fewer tokens than the first; here both count, but for one
    that is the first behind a token for the blank. Raises `InvalidRequest` for a word that the model cannot write.
    """
    return tuple(spelled for number, word in enumerate(words) for spelled in _spell(text, number, word.lstrip()))


def ban_words(terms: Terms, text: TextCodec, words: tuple[str, ...]) -> Terms:
    """Return the terms with the words banned, too; raise what `spell_bad_words` raises."""
    return structs.replace(terms, bad_words=spell_bad_words(text, words)) if words else terms


def _spell(text: TextCodec, number: int, word: str) -> tuple[tuple[int, ...], ...]:
    try:
        first, behind = (tuple(text.tokenize(Completion(said, add_special=False))) for said in (word, f" {word}"))
    except InvalidRequest as error:
        raise InvalidRequest(f"{_FIELD}[{number}]: {error.message}", param=_FIELD) from error
    if not first:
        raise InvalidRequest(f"{_FIELD}[{number}] has no tokens", param=_FIELD)
    return (first,) if behind[-len(first) :] == first else (first, behind)
