"""A small legal-cases application on two SQLite files, with a live writer: what the demo and the tests run."""
