"""Algorithm selection: policies that compute what to try from what practice taught, without a language model."""
