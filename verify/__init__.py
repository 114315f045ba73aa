"""Proof that both sides are equal, and repair by touching keys."""
