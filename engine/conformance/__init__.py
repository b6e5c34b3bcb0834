"""The conformance kit: what every strategy, network, data set and gradient processor must do, check by check."""
