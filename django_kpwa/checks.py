"""System checks `kpwa.E…` and `kpwa.W…`, each with a hint that says what to write."""
