"""What CAO-LLM is compared with: a file a baseline, one line each in the registry."""
