# SPDX-License-Identifier: Apache-2.0
"""The options of a command, declared once: each has name, type, range, help and default in one line of a class.

    class Sampling(Options):
        \"\"\"sampling\"\"\"                                                         heading in --help
        temperature: float = option(0.7, "0: greedy", ge=0, le=2)
        input_path: Path = option(REQUIRED, "the questions", metavar="FILE.parquet")

    (sampling,) = parse("rewrite.py", "Rewrites questions.", [Sampling], arguments)

Types and ranges are pydantic's, --help is argparse's. Every command spells its options --with_underscores (hyphens are
read, too), and several values follow one option (--compare A B). A name reserved by pydantic ends in an underscore,
which is not part of the option (json_: --json). Invalid input is one UserError that names the option and the value.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from co_rewarding.tools.cli import UserError

REQUIRED = PydanticUndefined
"""Default of a required option."""


def _split(value: Any) -> Any:
    return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Names separated by commas."""


class Options(BaseModel):
    """A group of options; the docstring is its heading. Checks of several options at once are model validators."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


G = TypeVar("G", bound=Options)


def option(
    default: Any, help: str, *, metavar: str | None = None, const: str | None = None, positional: bool = False, **limits
) -> Any:
    """One option.

    Args:
        const: the value of an option given without one.
        limits: pydantic's: ge, gt, le, lt (numbers), min_length.
    """
    more = {"metavar": metavar, "const": const, "positional": positional}
    return Field(default, description=help, json_schema_extra=more, **limits)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def parse(
    program: str,
    description: str,
    groups: Sequence[type[G]],
    arguments: Sequence[str],
    epilog: str = "",
    usage: str | None = None,
) -> list[G]:
    """A checked instance of each group, in order.

    Raises:
        UserError: an option is unknown or missing, or its value is not allowed.
    """
    parser = _Parser(
        prog=program, usage=usage, description=description, epilog=epilog, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for group in groups:
        place = parser.add_argument_group((group.__doc__ or "").strip())
        for name, field in group.model_fields.items():
            _add(place, name, field)
    given = vars(parser.parse_args([_underscores(word) for word in arguments]))
    return [_checked(group, {name: given[name] for name in group.model_fields if name in given}) for group in groups]


def _underscores(word: str) -> str:
    """--max-samples is --max_samples."""
    name, equals, value = word.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if re.match(r"--[a-zA-Z]", word) else word


def _add(place: Any, name: str, field: Any) -> None:
    more = field.json_schema_extra
    kind, words = field.annotation, field.description
    required = field.is_required()
    if not required and field.default is not False and field.default not in (None, "", (), [], {}):
        shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        words += f" (default {shown})" if words else f"default {shown}"
    how: dict[str, Any] = {"help": words.replace("%", "%%"), "metavar": more["metavar"] or _metavar(kind)}
    if get_origin(kind) is list:
        how |= {"nargs": "+", "action": "extend"}  # --data A B and --data A --data B
    elif more["const"] is not None:
        how |= {"nargs": "?", "const": more["const"]}
    elif kind is bool:
        how = {"help": how["help"], "action": "store_true"}
    if more["positional"]:
        optional = {} if required or "nargs" in how else {"nargs": "?", "default": argparse.SUPPRESS}
        place.add_argument(name, **how, **optional)
    else:
        place.add_argument(f"--{name.rstrip('_')}", dest=name, required=required, default=argparse.SUPPRESS, **how)


def _metavar(kind: Any) -> str:
    """The value's placeholder in --help."""
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    parts = [part for part in get_args(kind) if part is not NoneType] or [kind]
    if len(parts) == 1 and get_origin(parts[0]) is Literal:
        return _metavar(parts[0])
    return {int: "N", float: "X", bool: "BOOL", str: "TEXT"}.get(parts[0], "PATH")


def _checked(group: type[G], given: dict[str, Any]) -> G:
    try:
        return group(**given)
    except ValidationError as error:
        first = error.errors()[0]
        what = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        what = what.partition(", unable to")[0]
        if first["type"] == "value_error" and not first["loc"]:
            raise UserError(what) from None
        name = str(first["loc"][0])
        is_positional = group.model_fields[name].json_schema_extra["positional"]
        raise UserError(f"{'' if is_positional else '--'}{name.rstrip('_')} {first['input']}: {what}") from None
