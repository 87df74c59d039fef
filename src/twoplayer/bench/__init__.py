"""Benchmarks: what each technique buys on data whose modes are known."""
