"""Report of an evaluation: one HTML file, a Markdown page and a JSON file."""
