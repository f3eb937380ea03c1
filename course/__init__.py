"""What makes pages a course: how a page starts, claims, the ledger, figures, the run and its site.

It stands on ``srlib``, runs from a checkout, and is in no wheel.
"""
