# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hand-over costs: the downtime benchmark behind `scripts/downtime` (docs/downtime.md)."""
