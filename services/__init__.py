"""The services of the suite, what they share (`kit`), and the two ways to run them."""
