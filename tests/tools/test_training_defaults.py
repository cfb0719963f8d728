# SPDX-License-Identifier: Apache-2.0
"""Tools import nothing of training, so what both must agree on is written twice and compared here."""

from co_rewarding.algo.equivalence.relation import TIMEOUT_S
from co_rewarding.tools.evaluation.grade import EQUIVALENCE
from co_rewarding.tools.generation import engine
from co_rewarding.training import settings


def test_a_temperature_is_allowed_in_tools_where_it_is_in_training():
    assert engine.MAX_TEMPERATURE == settings.MAX_TEMPERATURE


def test_an_evaluation_grades_as_validation_does():
    assert settings.Settings.equivalence == EQUIVALENCE
    assert settings.Settings.verify_timeout_s == TIMEOUT_S
