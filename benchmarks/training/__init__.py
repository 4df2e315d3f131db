"""How the demo weights are trained: prompts, losses and the schedule; run by `train_demo`."""
