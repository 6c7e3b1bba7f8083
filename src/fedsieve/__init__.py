"""FedSieve: federated learning that is private, robust and cheap at once."""
