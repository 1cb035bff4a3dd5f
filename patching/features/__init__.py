"""Pictures that a run borrows from: read, kept and lent to other runs. Knows no paper."""
