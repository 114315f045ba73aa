"""Composition root: verbs, and the only place that builds concrete adapters."""
