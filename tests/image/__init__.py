"""Every line of the Dockerfile, run in a folder where no container engine is, and the service that comes of it."""
