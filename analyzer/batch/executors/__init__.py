"""What runs the jobs of a batch: processes of this machine, or threads of this process."""
