"""PostgreSQL's engine: one statement, and so one round trip and one durable commit, where the ORM's form has several.

It overrides the methods for which the benchmarks show that it pays, and hands to the portable form whatever is not the
usual case.
"""
