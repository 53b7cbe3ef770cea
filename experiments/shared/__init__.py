"""What several parts of the experiments use; it builds on none of them."""
