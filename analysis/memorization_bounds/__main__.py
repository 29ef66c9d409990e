"""python -m analysis.memorization_bounds"""

from analysis.memorization_bounds import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
