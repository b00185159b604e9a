"""The marks between which models think, as a table; a model's marks are known by its chat template."""

from typing import NamedTuple


class ThoughtForm(NamedTuple):
    """What opens a thought and what closes it; `always` says that every answer begins with one.

    There may be several ways to open one; the first is the usual one.
    """

    opens: tuple[str, ...]
    close: str
    always: bool = False


THOUGHT_FORMS = (
    ThoughtForm(
        ("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>analysis<|message|>"), "<|end|>", always=True
    ),
    ThoughtForm(("<think>",), "</think>"),
    ThoughtForm(("[THINK]",), "[/THINK]"),
    ThoughtForm(("<|START_THINKING|>",), "<|END_THINKING|>"),
    ThoughtForm(("<seed:think>",), "</seed:think>"),
    ThoughtForm(("<thinking>",), "</thinking>"),
    ThoughtForm(("<|channel>thought\n",), "<channel|>"),
)
# Variables of templates that switch thinking on and off.
SWITCHES = ("enable_thinking", "thinking")
EFFORT = "reasoning_effort"


def recognise_thoughts(template: str) -> ThoughtForm | None:
    """Find the marks that a chat template names; None where it names none."""
    return next((form for form in THOUGHT_FORMS if _is_named(form, template)), None)


def _is_named(form: ThoughtForm, template: str) -> bool:
    """Tell whether a template holds a form's marks; the beginning of the first may be all that it writes of it."""
    first, _, rest = form.opens[0].partition("analysis")
    return form.close in template if not rest else first in template and "analysis" in template
