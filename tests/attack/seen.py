"""The report of the neighbour that watches."""

from msgspec import Struct


class Seen(Struct, frozen=True):
    """Each answer is the monotonic second at which its request began, and the seconds that it took.

    `lost` has the seconds of requests whose connection broke, `weights` the worker's MiB.
    """

    alive: list[tuple[float, float]]
    answers: list[tuple[float, float]]
    wrong: list[str]
    lost: list[float]
    weights: list[float]
