"""Benchmarks whose pictures are drawn by several workers."""
