# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of every make-up are handed over: a test for each variant in tests/vars."""

from cprtest.machine.boards import BOARDS
from cprtest.provision import installed
from cprtest.test import CprTest
from cprtest.variant import Variant
from cprtest.workloads.everything import Everything


class Matrix(CprTest):
    """
    :avocado: tags=matrix
    """

    def test_guest_crosses(self):
        """A guest of this make-up is handed over in order, and all it has works on, as it was."""
        guest = self.boot(**self.variant.guest(self.disk))
        load = Everything(guest, lambda: self.network)
        load.check()
        outcome = self.transfer(guest, mode=self.variant["mode"])
        outcome.assert_completed()
        outcome.timeline.assert_order()
        load.check()
        load.stop()

    def setUp(self):
        self.variant = Variant.read(self.params.get)
        super().setUp()

    def requirements(self):
        return [*super().requirements(), *self.variant.needs()]

    def qemus(self):
        source, target = super().qemus()
        if self.variant["target"] == "same":
            return source, source
        return source, target if target != source else installed.under_test("mutants")

    @property
    def architecture(self):
        return BOARDS[self.variant["machine"]].architecture
