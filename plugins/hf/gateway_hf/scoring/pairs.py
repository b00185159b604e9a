"""From the pairs of a request to the tokens that a model reads."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from tokenizers import Encoding, Tokenizer

from gateway.engine import Completion, ContextTooLong, InvalidRequest, ScoreRequest, Tokens
from gateway_hf.embedding.encoder import TokenRow
from gateway_hf.embedding.texts import checked, read_head

# The prompt of Qwen3's rerankers, as their authors write it.
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_QUESTION = (
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n"
    "<Document>: "
)
_BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


class PairReader(Protocol):
    """Reads the texts of requests for one model; safe to use from any thread."""

    def read(self, request: ScoreRequest) -> list[TokenRow]:
        """Return the tokens of each document, with its query where it has one.

        Raises `ContextTooLong` for what does not fit, unless the document may be cut, and `InvalidRequest`.
        """
        ...


class Room(NamedTuple):
    """How many tokens a pair has, in all and beside `special` ones, and whether what is longer is cut."""

    most: int
    special: int
    cuts: bool

    @classmethod
    def of(cls, request: ScoreRequest, window: int, special: int) -> "Room":
        """Return the room of a request's pairs; raise `InvalidRequest` where there is none."""
        most = window if request.truncate is None else min(request.truncate, window)
        if most <= special + 1:
            raise InvalidRequest(
                f"of {most} tokens too few are left for a text: {special} are special", param="truncate"
            )
        return cls(most, special, request.truncate is not None)

    def behind(self, query: int) -> int:
        """Return the tokens that a query leaves to its document; raise `ContextTooLong` for none."""
        left = self.most - self.special - query
        if left < 1:
            raise ContextTooLong(f"the query leaves no room for a document in {self.most} tokens", param="query")
        return left

    def check(self, index: int, *, more: bool) -> None:
        """Raise `ContextTooLong` for a document that has more tokens than there is room for, and may not be cut."""
        if more and not self.cuts:
            raise ContextTooLong(
                f"text {index} has more than the {self.most} tokens that the model reads; have it cut, or send less",
                param="documents",
            )


class EncoderReader:
    """Reads pairs and single texts as an encoder has them, with special tokens around and between."""

    def __init__(self, tokenizer: Tokenizer, *, vocabulary: int, window: int, typed: bool) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._window = window
        self._typed = typed

    def read(self, request: ScoreRequest) -> list[TokenRow]:
        """Return the tokens of each document, with its query where it has one."""
        return list(self._pairs(request) if request.queries else self._texts(request))

    def _texts(self, request: ScoreRequest) -> Iterator[TokenRow]:
        room = Room.of(request, self._window, self._tokenizer.num_special_tokens_to_add(is_pair=False))
        for index, one in enumerate(request.documents):
            if isinstance(one, Tokens):
                ids = checked(one.ids, self._vocabulary, f"text {index}")
                if not ids:
                    raise InvalidRequest(f"text {index} has no tokens", param="documents")
                room.check(index, more=len(ids) > room.most)
                yield TokenRow(ids[: room.most], types=[0] * min(len(ids), room.most) if self._typed else ())
            else:
                text, more = read_head(self._tokenizer, one.text, room.behind(0))
                room.check(index, more=more)
                yield self._row(self._tokenizer.post_process(text))

    def _pairs(self, request: ScoreRequest) -> Iterator[TokenRow]:
        room = Room.of(request, self._window, self._tokenizer.num_special_tokens_to_add(is_pair=True))
        queries = [read_head(self._tokenizer, query.text, room.most)[0] for query in request.queries]
        for index, text in enumerate(texts_of(request)):
            query = queries[index if len(queries) > 1 else 0]
            left = room.behind(len(query.ids))
            own = min(left, request.truncate_documents or left)
            document, more = read_head(self._tokenizer, text, own)
            room.check(index, more=more and own == left)
            yield self._row(self._tokenizer.post_process(query, document), len(query.ids))

    def _row(self, whole: Encoding, first: int | None = None) -> TokenRow:
        if not self._typed:
            return TokenRow(whole.ids)
        if self._tokenizer.post_processor is None and first is not None:
            return TokenRow(whole.ids, types=[0] * first + [1] * (len(whole.ids) - first))
        return TokenRow(whole.ids, types=whole.type_ids)


class QuestionReader:
    """Reads pairs as the question whether the document answers the query, for a model that says yes or no.

    A text never becomes a marker of the template.
    """

    def __init__(self, tokenizer: Tokenizer, *, window: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._before = self._ids(_BEFORE)
        self._behind = self._ids(_BEHIND)
        self._tokenizer.encode_special_tokens = True
        self._window = window

    def read(self, request: ScoreRequest) -> list[TokenRow]:
        """Return the tokens of each question."""
        room = Room.of(request, self._window, len(self._before) + len(self._behind))
        asked = [_QUESTION.replace("{query}", query.text, 1) for query in request.queries]
        lengths = [len(read_head(self._tokenizer, question, room.most)[0].ids) for question in asked]
        rows: list[TokenRow] = []
        for index, text in enumerate(texts_of(request)):
            at = index if len(asked) > 1 else 0
            left = room.behind(lengths[at])
            own = min(left, request.truncate_documents or left)
            question, more = read_head(self._tokenizer, asked[at] + text, lengths[at] + own)
            room.check(index, more=more and own == left)
            rows.append(TokenRow([*self._before, *question.ids, *self._behind]))
        return rows

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def texts_of(request: ScoreRequest) -> Sequence[str]:
    """Return the documents of pairs; raise `InvalidRequest` for tokens, which have no place between special ones."""
    if any(isinstance(one, Tokens) for one in request.documents):
        raise InvalidRequest("the texts of a pair are texts, not tokens", param="documents")
    return [one.text for one in request.documents if isinstance(one, Completion)]
