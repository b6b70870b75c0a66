# SPDX-License-Identifier: GPL-2.0-or-later
"""Reporting: the lanes' journals merged into results.json, JUnit's results.xml and report/index.html."""
