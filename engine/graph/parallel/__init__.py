"""A network over the ranks of a group: plans, shards, and the exchanges between them."""
