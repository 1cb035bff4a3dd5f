"""Pictures from which a run borrows features: read, kept and lent. Knows no paper."""
