"""All SQL of the outbox, and all changes of its state: what `models` describes is written here and nowhere else."""
