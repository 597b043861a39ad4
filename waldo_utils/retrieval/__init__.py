"""Photos to features, features to ranked neighbors, and neighbors reranked."""
