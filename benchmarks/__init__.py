"""Cost of a message, compared with the least code that could do the job and with peers: `python -m benchmarks`."""
