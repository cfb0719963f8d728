# SPDX-License-Identifier: Apache-2.0
"""Where a system message goes with templates that show it, leave it out, refuse it, or do worse."""

import pytest
from jinja2 import Template, TemplateError

from co_rewarding.storage.messages import PROBE, Messages, arguments, merged, takes_no_system

SYSTEM, USER, REPLY = ({"role": role, "content": role[0].upper()} for role in ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([SYSTEM, USER], [{"role": "user", "content": "S\n\nU"}]),
        ([SYSTEM, USER, REPLY, USER], [{"role": "user", "content": "S\n\nU"}, REPLY, USER]),
        ([USER], [USER]),
        ([USER, SYSTEM], [USER, SYSTEM]),
        ([SYSTEM], [SYSTEM]),
        ([SYSTEM, REPLY], [SYSTEM, REPLY]),
        ([], []),
    ],
)
def test_the_system_message_goes_in_front_of_the_users(messages: list[dict], expected: list[dict]) -> None:
    before = [dict(message) for message in messages]
    assert merged(messages) == expected
    assert messages == before
    assert merged(merged(messages)) == expected


def raises(messages: Messages) -> str:
    raise TemplateError("no")


ALL = "{% for m in messages %}{{ m.content }}{% endfor %}"
USERS = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (ALL, False),
        (USERS, True),
        ("{% if messages[0].role == 'system' %}{{ 1 / 0 }}{% endif %}" + ALL, True),
        ("{% for m in messages %}{{ m.content | trim }}{% endfor %}", False),
        ("{{ messages[-1].content[-10:] }}", False),  # loses the merged one, too: not for us
        ("nothing", False),
    ],
)
def test_a_probe_tells_which_template_it_is(template: str, expected: bool) -> None:
    assert takes_no_system(lambda messages: Template(template).render(messages=messages)) is expected


def test_a_template_that_takes_nothing_is_left_alone() -> None:
    assert takes_no_system(raises) is False
    assert [message["role"] for message in PROBE] == ["system", "user"]


def test_what_says_how_a_prompt_is_handed_back_is_not_the_templates() -> None:
    assert arguments({"enable_thinking": False, "tokenize": True, "return_dict": 1}) == {"enable_thinking": False}
