# SPDX-License-Identifier: GPL-2.0-or-later
"""Random faults on random guests: plans, how one is played, how they are searched for one that fails."""
