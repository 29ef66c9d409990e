"""python -m analysis.memorization_curve"""

from analysis.memorization_curve import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
