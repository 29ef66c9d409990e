"""After training, without retraining: each weight's error is made good by the weights not yet compressed."""

from compression.feedback.allocation import BitAllocation, allocate_bits
from compression.feedback.budget import code_to_budget
from compression.feedback.coding import FeedbackCodeResult, code_with_feedback
from compression.feedback.hessians import Calibration
from compression.feedback.pruning import FeedbackPruneResult, prune_with_feedback
from compression.feedback.rounding import FeedbackRoundResult, round_with_feedback
from compression.feedback.scaling import ScaleResult, scale_channels

__all__ = [
    "BitAllocation",
    "Calibration",
    "FeedbackCodeResult",
    "FeedbackPruneResult",
    "FeedbackRoundResult",
    "ScaleResult",
    "allocate_bits",
    "code_to_budget",
    "code_with_feedback",
    "prune_with_feedback",
    "round_with_feedback",
    "scale_channels",
]
