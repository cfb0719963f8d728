# SPDX-License-Identifier: Apache-2.0
"""Lines for the person who follows a run, marked so that a script can pick them out of Ray's output."""

PROGRESS = "[co-rewarding]"  # starts every line of progress


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{PROGRESS} {text}", flush=True)
