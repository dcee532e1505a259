"""The store on PostgreSQL: one statement, hence one round trip and one commit, where the portable form needs several.

It overrides only the methods for which the benchmarks show a gain. Every unusual case is left to the portable form,
which also has the docstrings: arguments, results and exceptions are the same.
"""
