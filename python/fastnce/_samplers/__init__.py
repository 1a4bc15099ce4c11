"""Candidate samplers: the classes that represent all others in a sampled loss."""
