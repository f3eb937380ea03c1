"""What makes pages a course; it stands on ``srlib``, runs from a checkout, and is in no wheel."""
