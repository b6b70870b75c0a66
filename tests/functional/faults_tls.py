# SPDX-License-Identifier: GPL-2.0-or-later
"""The main channel by TLS: its handshake can fail and hang, outside the migration's thread (C-06, C-21)."""

from cprtest.aftermath import Expected
from cprtest.campaign import Case
from cprtest.faults.main_channel import Cut, Stalled
from cprtest.faults.tls import OTHER_KEY, Encrypted, Handshake, NoCredentials
from cprtest.faulttest import FaultTest
from cprtest.needs import needs

CANCELLED = Expected(reported=("cancelled",))
COMPLETED = Expected("completed", ("completed",))
IN_HANDSHAKE = (0, 1, 100)
AFTER_IT = (3000, 50_000, 100_000)


@needs("qemu:cpr-transfer", "qemu:tls-cipher-suites")
class Tls(FaultTest):
    """
    :avocado: tags=full
    """

    def test_completes(self):
        """A guest is handed over with its state encrypted."""
        self.strike([Case(Encrypted(Handshake()), COMPLETED)])

    def test_credentials(self):
        """Credentials that do not fit end in a roll-back, with an error that says so (C-06)."""
        wrong = Encrypted(Handshake("other-key"), source=OTHER_KEY)
        target_plain = Encrypted(Handshake("target-in-plain"), target=None)
        source_plain = Encrypted(Handshake("source-in-plain", plain=True), source=None)
        self.strike(
            [
                Case(wrong, Expected(error="(?i)tls|handshake")),
                Case(target_plain, Expected(error="(?i)tls|handshake")),
                Case(source_plain),
                Case(NoCredentials(), Expected(error="No TLS credentials")),
            ]
        )

    def test_cut(self):
        """The channel is cut in the handshake or after it, on either way: the guest is back (C-06)."""
        cuts = [Cut(count) for count in (*IN_HANDSHAKE, *AFTER_IT)]
        cuts += [Cut(count, back=True) for count in IN_HANDSHAKE]
        self.strike([Case(Encrypted(cut)) for cut in cuts])

    def test_cancelled(self):
        """A handshake that hangs can be cancelled, and so can the stream after it (C-21)."""
        self.strike([Case(Encrypted(Stalled(at)), CANCELLED) for at in (*IN_HANDSHAKE, *AFTER_IT)])
