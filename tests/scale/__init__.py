"""Three gateways behind nginx with one Redis, under load, and what the loss of each part costs: `just scale`."""
