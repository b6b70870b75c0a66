# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of all observers on one clock, the phases they make up, and the drawing of both."""
