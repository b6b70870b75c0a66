# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue of failures that are injected into a transfer, one module a family."""
