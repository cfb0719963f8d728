# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II: a slowly moving teacher gives the pseudo-label (arXiv 2508.00410, Eq. 9–11, Algorithm 2)."""
