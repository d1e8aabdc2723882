"""What the connector is measured beside: programs that return each packet to its sender, and do nothing else."""
