"""The package's migrations as a next release could have them: one more, that adds columns and an index."""
