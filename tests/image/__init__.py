"""Every line of the Dockerfile, run in a folder where no container engine is, and pods without a cluster."""
