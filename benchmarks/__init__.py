"""Side-by-side measurements, each printing a table and writing one form of JSON."""
