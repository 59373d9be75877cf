"""What is compared: one function a case, which yields the points at which its providers are measured."""
