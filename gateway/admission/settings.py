"""The settings of the admission."""

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class AdmissionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[admission]`: waiters for each place of a model, tokens reckoned for an answer of unstated length, and waits.

    Of a model's places, `spare_places` (a quarter of them at most) are not for a caller that holds all the others, as
    long as other callers come: a caller that asks seldom would wait for the end of an answer each time.

    Questions about a prompt (its tokens, its template) have places of their own: `questions` for each model, and
    `waiting_questions` that may wait for one.
    """

    waiters_per_place: Annotated[int, Meta(ge=1)] = 4
    unstated_tokens: Annotated[int, Meta(ge=1)] = 512
    spare_places: Annotated[int, Meta(ge=0)] = 1
    questions: Annotated[int, Meta(ge=1)] = 2
    waiting_questions: Annotated[int, Meta(ge=1)] = 32
    queue_seconds: _Seconds = 10.0
    first_token_seconds: _Seconds | None = None
