"""After training, without retraining: each weight's error is made good by the weights not yet compressed."""

from compression.feedback.pruning import FeedbackPruneResult, prune_with_feedback

__all__ = ["FeedbackPruneResult", "prune_with_feedback"]
