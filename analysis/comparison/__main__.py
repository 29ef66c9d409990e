"""python -m analysis.comparison"""

from analysis.comparison import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
