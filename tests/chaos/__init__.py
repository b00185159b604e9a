"""What the service does under load and faults, measured: `just chaos` prints one table."""
