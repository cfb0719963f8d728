# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I: original and rephrased question vote for each other (arXiv 2508.00410, Eq. 6–8, Algorithm 1)."""
