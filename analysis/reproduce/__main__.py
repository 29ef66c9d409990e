"""python -m analysis.reproduce"""

from analysis.reproduce import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
