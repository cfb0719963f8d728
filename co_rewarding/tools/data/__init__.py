# SPDX-License-Identifier: Apache-2.0
"""Data sets: verl's row schema, conversion from the published sets, data cards, sharing, inspection."""
