# SPDX-License-Identifier: Apache-2.0
"""The two marker lines around a model's rewrite; neither question nor rewrite may contain one.

Markers are recognised with any case, spacing and number of #.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BEGIN_MARKER = "### BEGIN_REWRITTEN_QUESTION ###"
END_MARKER = "### END_REWRITTEN_QUESTION ###"


@dataclass(frozen=True)
class Markers:
    """The two lines around a rewrite."""

    begin: str = BEGIN_MARKER
    end: str = END_MARKER

    def find_in(self, text: str) -> str | None:
        """The first marker in `text` as written there, None without one."""
        found = re.search(f"{loose_pattern(self.begin)}|{loose_pattern(self.end)}", text, re.IGNORECASE)
        return found.group() if found else None


def loose_pattern(marker: str) -> str:
    """A pattern for `marker` with any spacing, underscores for spaces, and any number of # around it."""
    words = re.findall(r"[^\s#_]+", marker)
    if not words:
        return re.escape(marker.strip())
    hashes = r"#{1,6}[ \t]{0,4}" if marker.strip().startswith("#") else ""
    closing = r"(?:[ \t]{0,4}#{1,6})?" if marker.strip().endswith("#") else ""
    return hashes + r"[ \t_]{0,4}".join(map(re.escape, words)) + closing
