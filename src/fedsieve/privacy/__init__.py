"""Mechanisms: clipping, noise, accounting, the client's budget ledger."""
