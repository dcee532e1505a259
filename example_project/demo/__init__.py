"""`manage.py demo`: the example shop, a Celery worker and a simulated phone as real processes on one machine.

`stage` defines the processes, and `supervisor` keeps them running; neither uses the database. Code that needs Django's
models runs in separate processes: `preparation` before the start, `sales_run` for `--sales` and `--csv`.
"""
