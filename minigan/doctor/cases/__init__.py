"""Show by runs that the doctor is right: twelve planted failures, ten healthy runs, remedies."""
