"""The package's migrations as a future release could have them: one more, which adds columns and an index."""
