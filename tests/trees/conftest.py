# SPDX-License-Identifier: Apache-2.0
"""The model of the tests with an engine."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_engine import save_model  # slow to import, and most tests need none

    return save_model(tmp_path_factory.mktemp("model"))
