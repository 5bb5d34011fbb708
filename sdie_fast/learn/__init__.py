"""Learning: the agent that mixes the filters, trained on a few labelled images."""
