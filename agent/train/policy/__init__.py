"""Training the policy by ReST-EM: the situations it learns in, what strategies are worth there, and the loop."""
