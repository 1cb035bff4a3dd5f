"""Benchmarks: side-by-side measurements, each with a table and one common JSON form."""
