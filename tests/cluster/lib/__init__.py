# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts, guests and traffic for the cluster tests and the demo."""
