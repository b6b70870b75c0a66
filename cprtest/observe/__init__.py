# SPDX-License-Identifier: GPL-2.0-or-later
"""Observers: each turns one source of evidence into events. They know nothing of each other."""
