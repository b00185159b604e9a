"""What `/v1/replay` answers."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.api.reference.examples import MODEL, REQUEST_ID


class AnswerOutline(Struct, frozen=True, kw_only=True):
    """One of the two answers."""

    tokens: Annotated[int, Meta(description="Tokens of the answer.", examples=[12])]
    finish_reason: Annotated[
        str | None, Meta(description="Why it ended; null where it was not finished.", examples=["stop"])
    ]
    system_fingerprint: Annotated[
        str | None, Meta(description="Which weights, versions and kernels made it.", examples=["fp_53e79feb78"])
    ]


class TextParting(Struct, frozen=True, kw_only=True):
    """Where two texts part, and how each goes on."""

    character: Annotated[int, Meta(description="How many characters are the same.", examples=[42])]
    token: Annotated[int, Meta(description="How many tokens of the first text are the same.", examples=[9])]
    then: Annotated[str, Meta(description="How the first text goes on, up to 200 characters.", examples=[" a hill"])]
    now: Annotated[str, Meta(description="How the second one does.", examples=[" a time"])]


class ReplayedAnswer(Struct, frozen=True, kw_only=True):
    """One answer, made again."""

    id: Annotated[
        str,
        Meta(
            description="The id of the answer: the request's, with a number for one of several.", examples=[REQUEST_ID]
        ),
    ]
    model: Annotated[str, Meta(description="The model that answered.", examples=[MODEL])]
    key: Annotated[str | None, Meta(description="The id of the caller's key.", examples=["k3f9a0c2d1"])]
    created: Annotated[int, Meta(description="When it ended, in seconds since 1970.", examples=[1_767_225_600])]
    repeatable: Annotated[
        bool, Meta(description="Whether the same request has the same answer: at temperature 0, or with a seed.")
    ]
    same: Annotated[bool, Meta(description="Whether both texts are the same, as far as the first was made.")]
    parting: Annotated[
        TextParting | None, Meta(description="Where the texts part; null where they do not.", examples=[None])
    ]
    then: Annotated[AnswerOutline, Meta(description="The recorded answer.")]
    now: Annotated[AnswerOutline, Meta(description="The answer that was made now.")]


class ReplayedRequest(Struct, frozen=True, kw_only=True):
    """A request that was run again."""

    id: Annotated[str, Meta(description="The id of this replay, its `x-request-id`.", examples=[REQUEST_ID])]
    object: Annotated[Literal["replay"], Meta(description="Always `replay`.")] = "replay"
    request: Annotated[str, Meta(description="The id of the request.", examples=[REQUEST_ID])]
    answers: Annotated[list[ReplayedAnswer], Meta(description="Its answers, one after another.")]
