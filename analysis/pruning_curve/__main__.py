"""python -m analysis.pruning_curve"""

from analysis.pruning_curve import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
