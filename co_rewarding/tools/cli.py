# SPDX-License-Identifier: Apache-2.0
"""What the command lines share: an error that the user can mend is told in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class UserError(Exception):
    """Something the user can mend; its message is one line."""


class Parser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def one_line(error: Any) -> str:
    """What an error of a library says, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
