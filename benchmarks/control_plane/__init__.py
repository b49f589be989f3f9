"""What the control plane costs: the loop, the executors, the storages, the commands."""
