"""S3, the data set of JeDi (arXiv 2407.06187, Algorithm 1): sets of one subject, made without photographs."""
