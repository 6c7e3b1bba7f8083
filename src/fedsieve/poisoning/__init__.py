"""What malicious clients do to training."""
