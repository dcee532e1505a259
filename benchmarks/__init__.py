"""What a message costs, beside the least code that could do the job and beside the peers: `python -m benchmarks`."""
