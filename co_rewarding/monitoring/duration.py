# SPDX-License-Identifier: Apache-2.0
"""Seconds in words."""


def duration(seconds: float) -> str:
    """Readable seconds: 42 s, 7 min 05 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
