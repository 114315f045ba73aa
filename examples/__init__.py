"""Sample applications that the demo and the tests run."""
