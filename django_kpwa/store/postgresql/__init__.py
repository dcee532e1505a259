"""The store on PostgreSQL: one statement, hence one round trip and one commit, where the portable form needs several.

It overrides only the methods for which the benchmarks show a gain, and leaves every unusual case to the portable form.
"""
