"""`manage.py demo`: the example shop, a Celery worker and a simulated phone as real processes on one machine.

`stage` says which processes and `supervisor` keeps them running; neither touches the database. What needs Django's
models runs in processes of its own: `preparation` before the curtain, `sales_run` for `--sales` and `--csv`.
"""
