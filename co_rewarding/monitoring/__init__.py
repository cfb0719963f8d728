# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself: metrics.py (votes, labels, rewards), collapse.py (signs of collapse in one step),
alarms.py (which of them moved as they do when a run goes wrong), held_out.py (validation without answers), duration.py.
Nothing here goes back into a reward."""
