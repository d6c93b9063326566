"""What runs the jobs of a batch: processes of this machine, or threads for tests of the queue."""
