"""python -m analysis.adequate_size"""

from analysis.adequate_size import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
