"""What a person sees of a run on a terminal: one screen that refreshes itself, plain lines anywhere else."""
