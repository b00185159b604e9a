"""Prompts of the kind that a chat brings: tasks of every sort, on one subject or one text each."""

from collections.abc import Callable

from gateway.cli.bench.prompts import PromptSource

_MILL = (
    "The river rises in the hills north of the town and flows south through meadows and small woods. In spring it "
    "carries the melted snow and often floods the lower fields. The mill at the old bridge was built in 1742 and "
    "ground corn for the villages until 1910. Today it is a museum, and on Sundays its wheel is turned for visitors."
)
_LETTER = (
    "Dear Ms. Keller, thank you for the offer of the 14th of May. We would like to order 120 of the small lamps and 45 "
    "of the large ones, to be delivered to our house in Bern before the end of June. Please tell us whether the price "
    "includes the bulbs, and what a further 30 small lamps would cost. Yours, P. Meyer"
)
_REPORT = (
    "On Tuesday at 09:12 the second of three database servers stopped answering. Requests were sent to the other two, "
    "which took the load but answered twice as slowly. At 09:40 the disk of the failed server was found to be full of "
    "old log files. They were removed, the server was started again at 09:55, and at 10:10 all was as before."
)
_TEXTS = (_MILL, _LETTER, _REPORT)
_OF_TEXTS = (
    "Summarize in three sentences: {}",
    "Repeat this text and write out all numbers in words: {}",
    "Make a list of the facts in this text: {}",
    "Write five questions that this text answers, with the answers: {}",
    "Rewrite this text for a ten-year-old: {}",
    "Which dates, names and numbers are in this text? Answer in JSON. {}",
)
_SUBJECTS = (
    "a bicycle", "bread", "the moon", "a lighthouse", "rain", "a violin", "the Roman roads", "an octopus",
    "a chess clock", "glass", "the printing press", "honey bees", "a steam engine", "tea", "the tides",
    "a compass", "snow", "maps",
    "a sailing ship", "coffee", "volcanoes", "a telescope", "paper", "owls",
)  # fmt: skip
_OF_SUBJECTS = (
    "Explain how {} works or comes about, step by step.",
    "Write a short story in which {} plays a part.",
    "Write a poem of four stanzas about {}.",
    "Give me ten facts about {}, one line each.",
    "What would you ask an expert on {}? List eight questions.",
    "Write a Python class that stands for {}, with two methods and a test.",
    "Compare {} with something that it is often confused with, in a table.",
    "Write an email to a friend about {} and why it matters to you.",
    "Explain the history of {} in three short paragraphs.",
    "Give me a JSON object that describes {}, with at least six fields.",
)
_COUNT = len(_OF_TEXTS) * len(_TEXTS) + len(_OF_SUBJECTS) * len(_SUBJECTS)


def question(number: int) -> str:
    """Return the question of this number; the first 258 are distinct, and later ones begin with their number."""
    turn, at = number // _COUNT, number * 101 % _COUNT  # a step that shares no factor with the count: neighbours differ
    told = f"Question {turn + 1}. " if turn else ""
    if at < len(_OF_TEXTS) * len(_TEXTS):
        return told + _OF_TEXTS[at % len(_OF_TEXTS)].format(_TEXTS[at // len(_OF_TEXTS)])
    at -= len(_OF_TEXTS) * len(_TEXTS)
    return told + _OF_SUBJECTS[at % len(_OF_SUBJECTS)].format(_SUBJECTS[at // len(_OF_SUBJECTS)])


def chat_prompts(render: Callable[[str], str]) -> Callable[[int], str]:
    """Make the source of chat prompts, each `render`ed by the model's template."""
    return lambda number: render(question(number))


def random_prompts(seed: int, words: int = 100) -> Callable[[int], str]:
    """Make the source of prompts of random words."""
    return PromptSource(seed, words).text
