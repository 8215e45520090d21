"""The numbered steps: each plans jobs, and each job reads, computes and writes."""
