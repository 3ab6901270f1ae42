"""Training what ships: the generator and the aligner, the policy, and the engines that share the work."""
