import pytest

from gateway_hf.tools.forms import FORMS, recognise
from tests.support.tiny_models import CHAT_TEMPLATE
from tests.support.tool_templates import TEMPLATES


def test_there_is_a_template_for_each_form():
    assert set(TEMPLATES) == {form.name for form in FORMS}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_form_is_recognised_by_the_template(name):
    assert recognise(TEMPLATES[name]).name == name


def test_a_template_that_calls_nothing_has_no_form():
    assert recognise(CHAT_TEMPLATE) is None
    assert recognise("") is None
