"""The initial copy and the resync of a table: chunks by key, resumable, under a floor."""
