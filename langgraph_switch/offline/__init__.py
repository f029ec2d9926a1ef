"""Learning to switch, offline: rollouts, training, evaluation and distillation as graphs."""
