"""The engines that this worker has: load, route, drain."""
