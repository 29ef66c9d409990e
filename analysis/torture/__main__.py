"""python -m analysis.torture"""

from analysis.torture import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
