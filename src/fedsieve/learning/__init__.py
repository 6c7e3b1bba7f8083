"""What is trained: flat parameters, per-sample gradients, models, data sets, partitions."""
