"""What a request asks for, settled and checked before the server hears of it."""

from msgspec import structs

from gateway.engine import GenerateRequest, InvalidRequest, ModelCard, Sampling
from gateway_llamacpp.vocabulary import GgufVocabulary


def settle(request: GenerateRequest, card: ModelCard) -> Sampling:
    """Return the request's sampling with the defaults of the request, and then the model's, in its gaps."""
    usual = card.under(request.defaults).defaults
    gaps = {name: getattr(usual, name) for name in usual.__struct_fields__ if getattr(request.sampling, name) is None}
    return structs.replace(request.sampling, **gaps)


def check_ids(sampling: Sampling, vocabulary: GgufVocabulary) -> None:
    """Raise `InvalidRequest` for ids that are no tokens, or that cannot be seen in an answer."""
    vocabulary.check(tuple(sampling.logit_bias or ()), "logit_bias")
    stops = sampling.stop_token_ids or ()
    vocabulary.check(stops, "stop_token_ids")
    for token in stops:
        if not vocabulary.is_whole(token):
            raise InvalidRequest(
                f"the token {token} is a part of a character, and llama-server does not tell those apart",
                param="stop_token_ids",
            )


def cut(request: GenerateRequest, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the part of a prompt that is read."""
    if request.truncate is None or len(ids) <= request.truncate:
        return ids
    return ids[: request.truncate] if request.truncation_side == "right" else ids[-request.truncate :]
