"""python -m analysis.speed"""

from analysis.speed import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
