"""Training: config in, checkpoints out. Deployments without a train engine say so when a train job is run."""
