# SPDX-License-Identifier: GPL-2.0-or-later
"""What touches the host: network namespaces, passthrough devices, leftovers of killed runs, the KVM probe."""
