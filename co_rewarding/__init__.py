# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding (arXiv 2508.00410): the paper as pure functions, shared by the trees of the methods I and II."""

__version__ = "0.1.0"
