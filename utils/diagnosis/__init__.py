"""What works here and what does not: the checks behind `doctor`."""
