"""What must be survived: every row is a test on real servers and real processes."""
